// Boxes over an image, as positioned elements: [x0, y0, x1, y1] in the unit frame.

export function drawBoxes(layer, boxes) {
  layer.replaceChildren(...boxes.map(({ box: [x0, y0, x1, y1], kind, label, index, corners }) => {
    const element = document.createElement("div");
    element.className = `box ${kind}`;
    // The label goes where the image has room for it; those of answers under the box, if they can.
    const room = { above: y0 > 0.1, under: y1 < 0.9 };
    const order = kind === "answer" ? ["under", "above"] : ["above", "under"];
    element.classList.add(order.find((side) => room[side]) ?? "inside");
    if (x0 > 0.7) element.classList.add("right");
    element.style.left = `${100 * x0}%`;
    element.style.top = `${100 * y0}%`;
    element.style.width = `${100 * (x1 - x0)}%`;
    element.style.height = `${100 * (y1 - y0)}%`;
    if (index !== undefined) element.dataset.index = index;
    const name = document.createElement("span");
    name.textContent = label;
    element.append(name);
    if (corners) element.append(...[[0, 1], [2, 1], [0, 3], [2, 3]].map(cornerHandle));
    return element;
  }));
}

// The corner's place among the four numbers of the box: which x and which y it moves.
function cornerHandle([x, y]) {
  const handle = document.createElement("i");
  handle.className = "corner";
  handle.dataset.x = x;
  handle.dataset.y = y;
  handle.style.left = x ? "100%" : "0";
  handle.style.top = y === 3 ? "100%" : "0";
  handle.style.cursor = (x === 0) === (y === 1) ? "nwse-resize" : "nesw-resize";
  return handle;
}

// What an outcome of the server says, drawn on both images: truth named by its change, answers by
// their number. Where the camera moved the images have true boxes of their own.
export function drawOutcome(layers, { truth, boxes }) {
  layers.forEach((layer, which) => drawBoxes(layer, [
    ...truth.filter(({ shown }) => shown[which])
      .map(({ shown, change }) => ({ box: shown[which], kind: "true", label: change })),
    ...boxes.map((box, i) => ({ box, kind: "answer", label: String(i + 1) })),
  ]));
}

export function fillTable(table, head, rows) {
  const line = (cells, kind) => {
    const row = document.createElement("tr");
    row.append(...cells.map((text) => Object.assign(document.createElement(kind), { textContent: text })));
    return row;
  };
  table.replaceChildren(line(head, "th"), ...rows.map((cells) => line(cells, "td")));
}

// Which box found what: every match with its IoU, then what is left over on either side.
export function matchRows({ truth, boxes, matches }) {
  const left = (length, side) =>
    [...Array(length).keys()].filter((i) => !matches.some((match) => match[side] === i));
  return [
    ...matches.map((match) => [
      `box ${match.answer + 1}`, truth[match.truth].change, match.iou.toFixed(3),
      match.found ? "found" : match.iou ? "too little overlap" : "no overlap",
    ]),
    ...left(boxes.length, "answer").map((i) => [`box ${i + 1}`, "-", "-", "one too many"]),
    ...left(truth.length, "truth").map((i) => ["-", truth[i].change, "-", "missed"]),
  ];
}
export const MATCH_HEAD = ["answer", "difference", "IoU", ""];
