// One pair: side by side or one after the other in the same place, with its boxes or without.

import { drawOutcome, fillTable, MATCH_HEAD, matchRows } from "./boxes.js";

const BLINK_MS = 600;
const $ = (id) => document.getElementById(id);
const outcome = JSON.parse($("outcome").textContent);
const layers = [...document.querySelectorAll(".boxes")];

// What was chosen stays chosen on the next pair.
const chosen = { blink: false, boxes: true, ...JSON.parse(sessionStorage.getItem("inspector") ?? "{}") };
let timer = 0;

function show() {
  sessionStorage.setItem("inspector", JSON.stringify(chosen));
  for (const name of ["blink", "boxes"]) $(name).setAttribute("aria-pressed", chosen[name]);
  drawOutcome(layers, chosen.boxes ? outcome : { truth: [], boxes: [] });
  clearInterval(timer);
  $("pair").classList.remove("second");
  $("pair").classList.toggle("blink", chosen.blink);
  if (chosen.blink) timer = setInterval(() => $("pair").classList.toggle("second"), BLINK_MS);
}

function toggle(name) {
  chosen[name] = !chosen[name];
  show();
}

const KEYS = {
  b: () => toggle("blink"), x: () => toggle("boxes"),
  ArrowLeft: () => $("before").click(), ArrowRight: () => $("after").click(), Escape: () => $("list").click(),
};
document.addEventListener("keydown", (event) => {
  if (!event.ctrlKey && !event.metaKey && !event.altKey) KEYS[event.key]?.();
});
$("blink").addEventListener("click", () => toggle("blink"));
$("boxes").addEventListener("click", () => toggle("boxes"));
if ($("matches")) fillTable($("matches"), MATCH_HEAD, matchRows(outcome));
show();
