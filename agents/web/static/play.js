// A pair at a time: the human draws boxes on either image, the server scores them.

import { drawBoxes, drawOutcome, fillTable, MATCH_HEAD, matchRows } from "./boxes.js";

const STEP = 0.01; // of the image's side, a press of an arrow
const LEAST_SIDE = 0.01; // a smaller box is taken for a click
const $ = (id) => document.getElementById(id);
const canvases = [...document.querySelectorAll(".canvas")];

let pair = null; // what the server shows, null while it renders
let answered = false;
let boxes = [];
let picked = -1;
let drag = null;

async function ask(url, options) {
  $("error").hidden = true;
  try {
    const response = await fetch(url, options);
    const reply = await response.json();
    if (!response.ok) throw new Error(reply.error);
    return reply;
  } catch (error) {
    fail(error instanceof TypeError ? "The server does not answer: is dig-env play still running?" : error.message);
    return null;
  }
}

function fail(message) {
  $("error").textContent = message;
  $("error").hidden = false;
}

async function showPair() {
  [pair, boxes, picked, answered] = [null, [], -1, false];
  for (const canvas of canvases) canvas.querySelector("img").hidden = true;
  draw();
  say("Rendering ...");
  const stage = $("stage").value;
  history.replaceState(null, "", `?stage=${stage}`); // a reload stays there
  const reply = await ask(`/api/pair?stage=${encodeURIComponent(stage)}`);
  if (stage !== $("stage").value) return; // another stage was chosen meanwhile
  if (!reply) return failedToShow();
  pair = reply;
  ["image_a", "image_b"].forEach((name, i) => {
    const image = canvases[i].querySelector("img");
    image.src = reply[name];
    image.hidden = false;
  });
  $("prompt").textContent = reply.prompt;
  showSummary(reply.summary);
  say("Draw a box around every difference");
  draw();
}

// Next is there to try again.
function failedToShow() {
  answered = true;
  say("");
  draw();
}

async function submit() {
  if (!pair || answered) return;
  answered = true; // a second press must not send it twice
  draw();
  const reply = await ask("/api/answer", {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ stage: pair.stage, pair_seed: pair.pair_seed, boxes }),
  });
  if (!reply) {
    answered = false; // the boxes are still there to be sent again
    return draw();
  }
  if (reply.warning) fail(reply.warning);
  showResult(reply);
}

function showResult(reply) {
  drawOutcome(canvases.map((canvas) => canvas.querySelector(".boxes")), reply);
  const found = reply.matches.filter((match) => match.found).length;
  const count = reply.truth.length;
  const differences = `${count} difference${count === 1 ? "" : "s"}`;
  $("reward").textContent = reply.reward.toFixed(3);
  $("verdict").textContent =
    `reward; ${found} of ${differences} found in ${reply.seconds.toFixed(1)} s`;
  fillTable($("parts"), ["part", "value", "weight"],
    [...Object.entries(reply.weights).map(([part, weight]) => [part, reply[part].toFixed(3), weight.toFixed(2)]),
      ["total", reply.reward.toFixed(3), ""]]);
  fillTable($("matches"), MATCH_HEAD, matchRows(reply));
  $("text").textContent = reply.answer;
  $("result").hidden = false;
  showSummary(reply.summary);
  say(`Reward ${reply.reward.toFixed(3)}`);
}

function showSummary(rows) {
  if (!rows.length) return;
  fillTable($("summary"), ["stage", "pairs", "reward", "F1", "IoU", "seconds"], rows.map((row) => [
    row.stage, row.episodes, row.reward.toFixed(3), row.f1.toFixed(3), row.iou.toFixed(3), row.seconds.toFixed(1),
  ]));
}

function say(text) {
  $("said").textContent = text;
}

function draw() {
  const open = pair !== null && !answered;
  for (const canvas of canvases) {
    canvas.classList.toggle("open", open);
    if (answered && pair) continue; // the boxes stay until the result is drawn
    drawBoxes(canvas.querySelector(".boxes"), boxes.map((box, index) => ({
      box, index, label: String(index + 1), corners: index === picked,
      kind: index === picked ? "draft picked" : "draft",
    })));
  }
  const focused = document.activeElement;
  $("submit").hidden = $("add").hidden = $("remove").hidden = answered;
  $("next").hidden = !answered;
  if (focused === $("submit") && answered) $("next").focus();
  $("submit").disabled = $("add").disabled = !open;
  $("remove").disabled = !open || picked < 0;
  if (!answered) $("result").hidden = true;
}

function pick(index) {
  picked = index;
  if (picked >= 0) {
    const [x0, y0, x1, y1] = boxes[picked].map((side) => Math.round(100 * side));
    say(`Box ${picked + 1} of ${boxes.length}: ${x0} to ${x1} % across, ${y0} to ${y1} % down`);
  } else {
    say(boxes.length === 1 ? "1 box" : `${boxes.length} boxes`);
  }
  draw();
}

function addBox() {
  if (!pair || answered) return;
  boxes.push([0.42, 0.42, 0.58, 0.58]);
  pick(boxes.length - 1);
}

function removeBox() {
  if (!pair || answered || picked < 0) return;
  boxes.splice(picked, 1);
  pick(Math.min(picked, boxes.length - 1));
}

const within = (number) => Math.min(1, Math.max(0, number));

function moved([x0, y0, x1, y1], dx, dy) {
  dx = Math.min(1 - x1, Math.max(-x0, dx));
  dy = Math.min(1 - y1, Math.max(-y0, dy));
  return [x0 + dx, y0 + dy, x1 + dx, y1 + dy];
}

function resized([x0, y0, x1, y1], dx, dy) {
  return [x0, y0, Math.min(1, Math.max(x0 + LEAST_SIDE, x1 + dx)), Math.min(1, Math.max(y0 + LEAST_SIDE, y1 + dy))];
}

// Mouse, pen and touch.

function place(event, canvas) {
  const frame = canvas.getBoundingClientRect();
  return [within((event.clientX - frame.left) / frame.width), within((event.clientY - frame.top) / frame.height)];
}

const spanned = ([ax, ay], [bx, by]) => [Math.min(ax, bx), Math.min(ay, by), Math.max(ax, bx), Math.max(ay, by)];

function begin(event, canvas) {
  if (!pair || answered || drag || event.button !== 0) return;
  const at = place(event, canvas);
  const corner = event.target.closest(".corner");
  const hit = event.target.closest(".box");
  if (corner) {
    const box = boxes[picked];
    // The opposite corner stays.
    const fixed = [box[2 - Number(corner.dataset.x)], box[4 - Number(corner.dataset.y)]];
    drag = { change: (now) => spanned(fixed, now) };
  } else if (hit) {
    picked = Number(hit.dataset.index);
    const old = boxes[picked];
    drag = { change: ([x, y]) => moved(old, x - at[0], y - at[1]) };
  } else {
    picked = boxes.push([...at, ...at]) - 1;
    drag = { change: (now) => spanned(at, now) };
  }
  drag.pointer = event.pointerId;
  drag.before = hit ? boxes[picked] : null;
  canvas.setPointerCapture(event.pointerId);
  draw();
}

function go(event, canvas) {
  if (!drag || drag.pointer !== event.pointerId) return;
  boxes[picked] = drag.change(place(event, canvas));
  draw();
}

function end(event) {
  if (!drag || drag.pointer !== event.pointerId) return;
  const [x0, y0, x1, y1] = boxes[picked];
  const tooSmall = x1 - x0 < LEAST_SIDE || y1 - y0 < LEAST_SIDE;
  if (tooSmall || event.type === "pointercancel") {
    if (drag.before) boxes[picked] = drag.before;
    else boxes.splice(picked, 1);
  }
  drag = null;
  pick(picked < boxes.length ? picked : -1);
}

for (const canvas of canvases) {
  canvas.addEventListener("pointerdown", (event) => begin(event, canvas));
  canvas.addEventListener("pointermove", (event) => go(event, canvas));
  canvas.addEventListener("pointerup", end);
  canvas.addEventListener("pointercancel", end);
}

// The keyboard.

const ARROWS = { ArrowLeft: [-STEP, 0], ArrowRight: [STEP, 0], ArrowUp: [0, -STEP], ArrowDown: [0, STEP] };

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || drag || event.target.matches("select")) return;
  const key = event.key;
  if (key === "Enter" && event.target.matches("button, summary")) return; // it presses that
  if (key === "s" || key === "S") submit();
  else if ((key === "n" || key === "N") && answered) showPair();
  else if (!pair || answered) return;
  else if (key === "Enter") addBox();
  else if (key === "Delete" || key === "Backspace") removeBox();
  else if (key >= "1" && key <= "9" && Number(key) <= boxes.length) pick(Number(key) - 1);
  else if (key in ARROWS && picked >= 0) {
    boxes[picked] = (event.shiftKey ? resized : moved)(boxes[picked], ...ARROWS[key]);
    pick(picked);
  } else return;
  event.preventDefault();
}

document.addEventListener("keydown", onKey);
$("submit").addEventListener("click", submit);
$("next").addEventListener("click", showPair);
$("add").addEventListener("click", addBox);
$("remove").addEventListener("click", removeBox);
$("stage").addEventListener("change", showPair);
showPair();
