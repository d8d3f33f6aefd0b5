// The page: a board to fill in, and the passes of the model to go through. worker.js does the work.

import {judge, place} from "./rules.js";

const $ = id => document.getElementById(id);
const worker = new Worker(new URL("worker.js", import.meta.url), {type: "module"});
let model, cells = [], ready = false;
let puzzle = [], passes = [], shown = -1, focused = 0;  // shown: the pass on the board, -1: the puzzle
let wish = 0, thinking = false, way = "plain", asked = false;
const next = {};  // level → which of its puzzles comes next

worker.onmessage = ({data}) => {
  if (data.failed) say(`The model could not be loaded (${data.failed}): load the page again.`, "bad");
  if (data.model) build(data.model);
  if (data.ready) {
    ready = true;
    $("think").disabled = false;
    if (asked) think("plain");
  }
  if (data.id !== wish || !thinking) return;
  if (data.pass) {
    passes.push(data.pass);
    show(passes.length - 1);
  }
  if (data.done) finish();
};
worker.onerror = () => say("This browser cannot run the model: it needs WebAssembly with SIMD.", "bad");

function build(description) {
  model = description;
  document.title = `${model.name}: see it think`;
  $("about").textContent = `${model.name}: ${model.about}`;
  $("board").style.setProperty("--size", model.columns);
  $("board").style.gridTemplateColumns = `repeat(${model.columns}, 1fr)`;
  $("board").style.aspectRatio = `${model.columns} / ${model.rows}`;
  for (let row = 0; row < model.rows; row++) {
    const line = $("board").appendChild(Object.assign(document.createElement("div"), {role: "row"}));
    for (let column = 0; column < model.columns; column++) {
      const cell = line.appendChild(document.createElement("div")), index = cells.length;
      cell.role = "gridcell";
      cell.dataset.edges = [
        (column + 1) % model.box[1] === 0 && "right", (row + 1) % model.box[0] === 0 && "below",
        column + 1 === model.columns && "last", row + 1 === model.rows && "bottom",
      ].filter(Boolean).join(" ");
      cell.onfocus = () => focused = index;
      cell.onclick = () => cell.focus();
      cells.push(cell);
    }
  }
  for (const [symbol, label] of [...model.keys.map(key => [key, key]), ["", "⌫"]]) {
    const key = button(label, () => type(symbol));
    key.setAttribute("aria-label", symbol ? `Fill in ${symbol}` : "Erase the cell");
    $("keys").append(key);
  }
  for (const level of Object.keys(model.samples)) {
    $("levels").append(button(level, () => {
      next[level] = (next[level] ?? -1) + 1;
      read(model.samples[level][next[level] % model.samples[level].length]);
    }));
  }
  $("hint").textContent = "Choose a cell and type; arrow keys move.";
  const first = $("levels").querySelector("button");
  $("levels").hidden = !first;
  first ? first.click() : set(Array(model.rows * model.columns).fill(model.blank));
}

function button(label, onclick) {
  return Object.assign(document.createElement("button"), {textContent: label, onclick});
}

function set(tokens) {  // another puzzle
  stop();
  [puzzle, passes] = [tokens, []];
  show(-1);
  $("again").hidden = true;
  $("text").value = written();
  say("");
}

function read(text) {  // a written puzzle; whether it can be read
  const symbols = [...(model.kind === "maze" ? text.replace(/[\r\n]/g, "").replaceAll(" ", ".") : text.replace(/\s/g, ""))];
  const wrong = symbols.find(symbol => !(symbol in model.typed));
  if (wrong !== undefined) say(`${wrong} is not a symbol of this puzzle: use ${Object.keys(model.typed).join(" ")}`, "bad");
  else if (symbols.length !== cells.length) say(`A puzzle has ${cells.length} symbols, this one ${symbols.length}.`, "bad");
  else set(symbols.map(symbol => model.typed[symbol]));
  return wrong === undefined && symbols.length === cells.length;
}

const written = () => puzzle.map(token => model.written[token]).join("");

function type(symbol) {
  const token = symbol === "" ? model.blank : model.typed[symbol];
  if (token === undefined) return;
  const tokens = [...puzzle];
  for (const alone of [model.start, model.goal]) {  // of which a maze has one
    if (token === alone && tokens.includes(alone)) tokens[tokens.indexOf(alone)] = model.blank;
  }
  tokens[focused] = token;
  set(tokens);
  cells[focused].focus();
}

function invalid() {  // why there is nothing to think about, if so
  const {cells: wrong, problem, invalid} = judge(model, puzzle, puzzle);
  const bad = model.kind === "maze" ? invalid : wrong.some(cell => puzzle[cell] !== model.blank);
  return bad ? `This puzzle cannot be solved: ${problem}.` : "";
}

function think(how) {
  if (thinking) return stop();
  const problem = invalid();
  if (problem) return say(problem, "bad");
  asked = !ready;
  if (asked) return say("The model is still being loaded …");
  [way, thinking, wish, passes] = [how, true, wish + 1, []];
  $("think").textContent = "Stop";
  $("again").hidden = true;
  say("Thinking …");
  worker.postMessage({id: wish, tokens: puzzle, way});
}

function stop() {
  if (thinking) worker.postMessage({id: ++wish});
  thinking = asked = false;
  $("think").textContent = "Think";
}

function finish() {
  stop();
  const last = passes.at(-1), {problem} = judge(model, puzzle, last.answer);
  const ms = passes.reduce((sum, pass) => sum + pass.ms, 0), solved = problem === null;
  const halts = last.halted ? `The model halts` : "The model does not halt";
  const how = last.label ? ` in ${last.label}` : "";
  const rules = model.kind === "grid" ? "" : solved ? " The rules agree: it is solved." : ` By the rules: ${problem}.`;
  const plural = passes.length > 1 ? "es" : "";
  say(`${halts} after ${passes.length} pass${plural}${how}, in ${duration(ms)}; it is ${percent(chance(last.q))} sure.${rules}`,
    model.kind === "grid" ? "" : solved ? "good" : "bad");
  $("again").hidden = solved;
  $("views").hidden = !model.views.length;
}

function show(index) {  // draw a pass, or the puzzle
  shown = index;
  const pass = passes[index], before = passes[index - 1]?.answer ?? puzzle, answer = pass?.answer ?? puzzle;
  const wrong = new Set(pass || invalid() ? judge(model, puzzle, answer).cells : []);
  if (!pass) for (const cell of wrong) if (puzzle[cell] === model.blank) wrong.delete(cell);
  cells.forEach((cell, i) => {
    const given = model.keeps && puzzle[i] !== model.blank, token = answer[i];
    const marks = [
      given && "given", token === model.wall && "wall", wrong.has(i) && "wrong",
      pass && index > 0 && token !== before[i] && "changed",
    ].filter(Boolean);
    cell.className = [...marks, cell.dataset.edges].join(" ");
    cell.textContent = model.symbols[token];
    const sure = pass && !given ? pass.sure[i] : 0;
    cell.style.background = sure && token !== model.wall ? `rgb(var(--sure) / ${(0.32 * sure ** 2).toFixed(3)})` : "";
    const words = [model.symbols[token] || "empty", ...marks, pass && !given && `${percent(sure)} sure`];
    cell.setAttribute("aria-label", `${place(model, i)}: ${words.filter(Boolean).join(", ")}`);
    cell.tabIndex = i === focused ? 0 : -1;
  });
  $("passes").hidden = !pass;
  if (!pass) return;
  [$("pass").max, $("pass").value] = [passes.length - 1, index];
  $("which").textContent = `${index + 1} of ${passes.length}${pass.label && `, ${pass.label}`}`;
  $("pass").setAttribute("aria-valuetext", `pass ${index + 1}: ${percent(chance(pass.q))} sure`);
  const changed = answer.filter((token, i) => token !== before[i]).length;
  $("facts").textContent = `${percent(chance(pass.q))} sure of the whole (q ${pass.q.toFixed(1)}); ${changed} cells changed, ${wrong.size} break a rule; ${duration(pass.ms)}`;
  const points = passes.map(({q}, i) => [300 * (passes.length > 1 ? i / (passes.length - 1) : 0.5), 70 - 66 * chance(q)]);
  $("curve").querySelector("polyline").setAttribute("points", points.join(" "));
  const dot = $("curve").querySelector("circle");
  ["cx", "cy"].forEach((name, axis) => dot.setAttribute(name, points[index][axis]));
}

const chance = q => 1 / (1 + Math.exp(-q));
const percent = share => `${share > 0.995 && share < 1 ? ">99" : Math.round(100 * share)} %`;
const duration = ms => ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(1)} s`;

function say(sentence, kind = "") {
  $("verdict").textContent = sentence;
  $("verdict").className = kind;
}

function step(by) {
  if (passes.length) show(Math.min(Math.max(shown + by, 0), passes.length - 1));
}

$("board").onkeydown = event => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const n = model.columns, by = {ArrowLeft: -1, ArrowRight: 1, ArrowUp: -n, ArrowDown: n}[event.key];
  if (by && cells[focused + by]) cells[focused + by].focus();
  else if (["Backspace", "Delete", "0", " "].includes(event.key) && !model.keys.includes(event.key)) type("");
  else if (event.key === "Enter") think("plain");
  else {
    const symbol = [event.key, event.key.toUpperCase()].find(key => model.keys.includes(key));
    if (symbol === undefined) return;
    type(symbol);
  }
  event.preventDefault();
};
$("text").onchange = () => { if ($("text").value !== written()) read($("text").value); };
$("text").onkeydown = event => { if (event.key === "Enter" && read($("text").value)) think("plain"); };
document.onpaste = event => { if (event.target !== $("text")) read(event.clipboardData.getData("text")); };
$("think").onclick = () => think("plain");
$("clear").onclick = () => set(Array(cells.length).fill(model.blank));
$("views").onclick = () => think("views");
$("noise").onclick = () => think("noise");
$("back").onclick = () => step(-1);
$("forth").onclick = () => step(1);
$("pass").oninput = () => show(Number($("pass").value));
