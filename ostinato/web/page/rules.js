// What is wrong with an answer by the rules of the puzzle alone: {cells, problem}.

export function judge(model, puzzle, answer) {
  const given = cell => model.keeps && puzzle[cell] !== model.blank;
  const changed = [...puzzle.keys()].filter(model.kind === "maze"
    ? c => puzzle[c] !== answer[c] && !(answer[c] === model.path && !given(c))
    : c => given(c) && puzzle[c] !== answer[c]);
  if (changed.length) return {cells: changed, problem: `what was given in ${place(model, changed[0])} was changed`};
  if (model.kind === "sudoku") return units(model, puzzle, answer, given);
  if (model.kind === "maze") return path(model, puzzle, answer);
  return {cells: [], problem: null};
}

export function place(model, cell) {
  return `row ${Math.floor(cell / model.columns) + 1}, column ${cell % model.columns + 1}`;
}

function units(model, puzzle, answer, given) {
  const cells = new Set([...answer.keys()].filter(cell => answer[cell] <= model.blank));
  let problem = null;
  for (const unit of model.units) {
    for (const cell of unit) {
      const twins = unit.filter(other => answer[other] === answer[cell]);
      if (twins.length === 1 || answer[cell] <= model.blank) continue;
      problem ??= `${model.symbols[answer[cell]]} stands twice: in ${twins.slice(0, 2).map(c => place(model, c)).join(" and ")}`;
      // A given is in the right, unless all are given
      if (!given(cell) || twins.every(given)) cells.add(cell);
    }
  }
  if (cells.size) problem ??= `${place(model, [...cells][0])} holds no digit`;
  return {cells: [...cells], problem};
}

// Steps from the start to every cell that can be entered, in a breadth-first search
function distances(model, board, enter) {
  const n = model.columns, steps = new Map([[board.indexOf(model.start), 0]]);
  for (const [cell, step] of steps) {  // a Map goes on over what is added
    for (const next of neighbours(cell, n, board.length)) {
      if (!steps.has(next) && enter(board[next])) steps.set(next, step + 1);
    }
  }
  return steps;
}

function neighbours(cell, n, size) {
  const around = [];
  if (cell >= n) around.push(cell - n);
  if (cell + n < size) around.push(cell + n);
  if (cell % n) around.push(cell - 1);
  if ((cell + 1) % n) around.push(cell + 1);
  return around;
}

function path(model, puzzle, answer) {
  const {start, goal, path, wall} = model, end = puzzle.indexOf(goal);
  if ([start, goal].some(t => puzzle.filter(u => u === t).length !== 1)) {
    return {cells: [], problem: "a maze needs one S and one G", invalid: true};
  }
  const best = distances(model, puzzle, token => token !== wall).get(end);
  if (best === undefined) return {cells: [], problem: "no way leads from S to G", invalid: true};
  const walk = distances(model, answer, token => token === path || token === goal);
  const marked = [...answer.keys()].filter(cell => answer[cell] === path);
  const stray = marked.filter(cell => !walk.has(cell));
  if (stray.length) return {cells: stray, problem: `${place(model, stray[0])} is marked but not on the path`};
  if (!walk.has(end)) return {cells: marked, problem: "the path does not reach G"};
  if (marked.length !== walk.get(end) - 1) return {cells: marked, problem: "the path forks"};
  const longer = walk.get(end) > best;
  return {cells: longer ? marked : [], problem: longer ? "there is a shorter path" : null};
}
