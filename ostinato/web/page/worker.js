// The model, apart from the page so that the page never waits. It thinks about one puzzle at a
// time, and tells of every pass (an H-cycle): the answer, how sure it is, and how long it took.

import {load, widened} from "./tensors.js";

let model, runtime, current = 0;

async function fetched(name) {
  const response = await fetch(new URL(name, import.meta.url));
  if (!response.ok) throw new Error(`${name}: ${response.status}`);
  return response;
}

async function start() {
  const stored = fetched("weights.bin");
  model = await (await fetched("model.json")).json();
  postMessage({model: {...model, program: null}});
  runtime = await load(model.program, widened(await (await stored).arrayBuffer(), model.segments));
  postMessage({ready: true});
}

function gaussian() {
  return Math.sqrt(-2 * Math.log(1 - Math.random())) * Math.cos(2 * Math.PI * Math.random());
}

// One attempt: at the puzzle as it is, or at a view of it (whose answers are taken back), or with noise
async function attempt(id, tokens, view, noise, label) {
  const {inputs, outputs} = model.program, {numbers: m, integers} = runtime;
  const shown = view ? view.source.map(cell => view.names[tokens[cell]]) : tokens;
  integers.set(shown, inputs.tokens);
  integers[inputs.puzzle_ids] = 0;
  for (const z of ["z_H", "z_L"]) {
    for (let i = 0; i < model.length; i++) m.set(model[z], inputs[z] + i * model[z].length);
  }
  let halts = 0, before = "";
  for (let number = 1; number <= model.max_passes; number++) {
    if (noise && (number - 1) % model.H_cycles === 0) {
      for (let i = 0; i < model.length * model.z_L.length; i++) m[inputs.z_L + i] += noise * gaussian();
    }
    const since = performance.now();
    runtime.run();
    const ms = performance.now() - since;
    const answer = [], sure = [], {logits, q} = outputs;
    for (let cell = 0; cell < tokens.length; cell++) {
      const row = model.symbols.map( (_, t) => m[logits.at + cell * logits.strides[1] + t * logits.strides[2]]);
      const most = Math.max(...row), at = view ? view.source[cell] : cell, token = row.indexOf(most);
      answer[at] = view ? view.names.indexOf(token) : token;
      sure[at] = 1 / row.reduce((sum, logit) => sum + Math.exp(logit - most), 0);
    }
    const halt = m[q.at] - (model.q_continue ? m[q.at + q.strides[1]] : 0);
    halts = halt > 0 ? (answer.join() === before ? halts : 0) + 1 : 0;
    before = answer.join();
    const filled = token => model.kind !== "maze" || token === model.path;
    const kept = !model.keeps || tokens.every((token, at) => token === answer[at] || (token === model.blank && filled(answer[at])));
    const halted = kept && halts >= model.patience;  // however sure it is, a changed given is wrong
    postMessage({id, pass: {number, answer, sure, q: m[q.at], ms, label, halted}});
    await new Promise(done => setTimeout(done));  // a newer wish may have come
    if (id !== current || halted) return halted;
  }
  return false;
}

onmessage = async ({data: {id, tokens, way}}) => {
  current = id;
  if (!tokens) return;
  const attempts = way === "views" ? model.views.map((view, i) => [view, 0, `view ${i + 1}`])
    : way === "noise" ? Array.from({length: 8}, (_, i) => [null, 0.3, `noise ${i + 1}`]) : [[null, 0, ""]];
  for (const [view, noise, label] of attempts) {
    if (await attempt(id, tokens, view, noise, label) || id !== current) break;
  }
  if (id === current) postMessage({id, done: true});
};

start().catch(error => postMessage({failed: String(error.message ?? error)}));
