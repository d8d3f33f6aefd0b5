"""`Seats` hold the attempts that a batch is thinking about: see `stream.py`."""

import math
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ostinato.data.task import Task
from ostinato.inference.pursuit import Look, Pursuit, Turn
from ostinato.inference.search import RESIDUAL_STEPS, Attempt, Search
from ostinato.inference.think import Step, take_step
from ostinato.layers import Relaxation
from ostinato.models import RecursiveModel, State
from ostinato.models.recursive import wants_to_halt


class Seats:
    """Hold the batch: every tensor has a row for each seated attempt."""

    def __init__(self, model: RecursiveModel, search: Search, task: Task | None):
        self.model, self.search, self.task = model, search, task
        self.H_cycles = 1 if search.early_exit else model.cycles.H
        """H-cycles from one look at the answers to the next."""
        self.stride = Fraction(self.H_cycles, model.cycles.H)
        """Steps from one look at the answers to the next."""
        self.turns: list[Turn] = []
        config, device = model.config, model.H_init.device
        self.state = model.initial_state(0)
        self.tokens = torch.zeros(0, config.seq_len, dtype=torch.int32, device=device)
        self.puzzle_ids = torch.zeros(0, dtype=torch.int32, device=device)
        self.answer = self.tokens.long()
        # For the residual: the logits at the last look, and their last few changes
        self.logits = torch.zeros(0, config.seq_len, config.vocab_size, device=device)
        self.moves = torch.zeros(0, RESIDUAL_STEPS, device=device)

    def add(self, turns: list[Turn]) -> None:
        """Seat new attempts behind the others."""
        if not turns:
            return
        count, device = len(turns), self.tokens.device

        def longer(rows: Tensor, value: float | int) -> Tensor:
            return torch.cat([rows, rows.new_full((count, *rows.shape[1:]), value)])

        tokens = torch.stack([turn.tokens for turn in turns]).to(device, torch.int32)
        ids = torch.tensor([turn.pursuit.question.puzzle_id for turn in turns], dtype=torch.int32)
        starts = [self.model.initial_state(1, turn.start) for turn in turns]
        fresh = State(*(torch.cat(z) for z in zip(*starts, strict=True)))
        self.turns += turns
        self.state = State(*(torch.cat(z) for z in zip(self.state, fresh, strict=True)))
        self.tokens = torch.cat([self.tokens, tokens])
        self.puzzle_ids = torch.cat([self.puzzle_ids, ids.to(device)])
        self.answer = longer(self.answer, -1)  # no answer yet: the first one counts as a change
        if self.search.select == "residual":
            self.logits, self.moves = longer(self.logits, 0), longer(self.moves, math.nan)

    def keep(self, rows: list[int]) -> None:
        """Remove all seats except these."""
        index = torch.tensor(rows, device=self.tokens.device, dtype=torch.long)
        self.turns = [self.turns[row] for row in rows]
        self.state = State(*(z[index] for z in self.state))
        self.tokens, self.puzzle_ids = self.tokens[index], self.puzzle_ids[index]
        self.answer = self.answer[index]
        if self.search.select == "residual":
            self.logits, self.moves = self.logits[index], self.moves[index]

    def think(
        self,
        on_step: Callable[[Step], None] | None = None,
        on_look: Callable[[Look], None] | None = None,
    ) -> list[Pursuit]:
        """Continue all attempts until the next look at the answers.

        Attempts that end leave their seats. Return their pursuits, each once.
        """
        self.add_noise()
        number = float(self.turns[0].steps + self.stride)
        step = take_step(
            self.model,
            self.state,
            self.tokens,
            self.puzzle_ids,
            number,
            self.H_cycles,
            self.relaxation(),
        )
        if on_step is not None:
            on_step(step)
        if on_look is not None:
            on_look(self.look(step))
        halts = wants_to_halt(step.output, self.model.config)
        changed = (step.answer != self.answer).any(1)
        # One transfer for everything that the host needs to decide
        facts = torch.stack([halts.float(), changed.float(), step.q_halt.float()]).tolist()
        self.state, self.answer = step.state, step.answer
        if self.search.select == "residual":
            self.measure_moves(step.output.logits)
        for turn, halting, is_new in zip(self.turns, *facts[:2], strict=True):
            turn.steps += self.stride
            if is_new:
                turn.settled, turn.halts = turn.steps, 0
            turn.halts = turn.halts + 1 if halting else 0

        accepted = self.accepted(facts[1])
        for row in accepted:
            self.turns[row].pursuit.accept(self.turns[row].steps)
        over = {
            row
            for row, turn in enumerate(self.turns)
            if turn.steps >= min(turn.max_steps, turn.pursuit.limit)
        }
        if self.search.early_exit:
            over |= accepted
        return self.leave(sorted(over), accepted, facts[2], step.output.logits) if over else []

    def look(self, step: Step) -> Look:
        """Return what is seen of the attempts after a step."""
        q_halt = step.q_halt.float().tolist()
        row = int(np.argmax(q_halt))
        turn = self.turns[row]
        answer = turn.own(step.answer[row].cpu()).numpy()
        return Look(turn.way, float(turn.steps + self.stride), turn.max_steps, answer, q_halt)

    def accepted(self, changed: list[float]) -> set[int]:
        """Return the seats with accepted answers; without early exit, only ended attempts count."""
        asked = [
            row
            for row, turn in enumerate(self.turns)
            if self.search.early_exit or turn.steps == turn.max_steps
        ]
        if not self.search.verify:
            believed = [
                row for row in asked if self.turns[row].halts >= self.looks_needed(self.turns[row])
            ]
            return {row for row in believed if self.keeps_givens(row)}
        if self.search.early_exit:  # unchanged answers were checked before
            asked = [row for row in asked if changed[row]]
        assert self.task is not None
        answers = self.answer[asked].cpu().numpy()
        # The answer to a view keeps the rules exactly if its image in the puzzle does
        return {
            row
            for row, answer in zip(asked, answers, strict=True)
            if self.task.check(self.turns[row].puzzle.numpy(), answer) is None
        }

    def keeps_givens(self, row: int) -> bool:
        """Tell whether the answer in a seat leaves what its puzzle gives as it is."""
        if self.task is None:
            return True
        puzzle, answer = self.turns[row].puzzle.numpy(), self.answer[row].cpu().numpy()
        return not self.task.changed(puzzle, answer).any()

    def looks_needed(self, turn: Turn) -> int:
        """Return at how many looks in a row the model must halt, to be believed."""
        if not self.search.early_exit:
            return 1
        return min(self.search.patience, max(1, int(turn.max_steps / self.stride)))

    def leave(
        self,
        over: list[int],
        accepted: set[int],
        q_halt: list[float],
        logits: Float[Tensor, "batch seq vocab"],
    ) -> list[Pursuit]:
        """Report the attempts in these seats to their pursuits, and empty the seats."""
        answers = self.answer[over].cpu().to(torch.int32)
        residuals = [math.inf] * len(over)
        if self.search.select == "residual":
            residuals = self.moves[over].nanmean(1).nan_to_num(math.inf).tolist()
        for row, answer, residual in zip(over, answers, residuals, strict=True):
            turn = self.turns[row]
            if turn.undo is not None:
                answer = turn.undo.apply(answer[None])[0]
            guessing = self.search.guesses and turn.way in ("plain", "guess")
            turn.pursuit.end(
                turn,
                Attempt(
                    way=turn.way,
                    answer=answer.numpy().copy(),  # a view would keep all answers in memory
                    q_halt=q_halt[row],
                    accepted=row in accepted,
                    steps=float(turn.steps),
                    settled=float(turn.settled),
                    residual=residual,
                ),
                logits[row].float().softmax(-1).cpu().numpy() if guessing else None,
            )
        pursuits = dict.fromkeys(self.turns[row].pursuit for row in over)
        gone = set(over)
        self.keep([row for row in range(len(self.turns)) if row not in gone])
        return list(pursuits)

    def relaxation(self) -> Relaxation:
        """Return damping and noise of each seat; restarts have their own."""
        config, search = self.model.config, self.search
        own = Relaxation(config.damping, config.noise, [turn.start for turn in self.turns])
        restarted = [turn.way == "restart" for turn in self.turns]
        if not any(restarted):
            return own if config.noise else Relaxation(config.damping)
        rows = torch.tensor(restarted, device=self.tokens.device)[:, None, None]
        return replace(
            own,
            damping=torch.where(rows, search.damping, config.damping),
            noise=torch.where(rows, search.jitter, config.noise),
        )

    def add_noise(self) -> None:
        """Add noise to the latents of rollouts that begin a step, each with its own generator."""
        sigma, names = self.search.sigma, self.search.noise_on
        noisy = [
            row
            for row, turn in enumerate(self.turns)
            if turn.noise is not None and turn.steps.denominator == 1
        ]
        if not noisy or not sigma:
            return
        latents = self.state._asdict()
        for name, latent in latents.items():
            if names in (name, "both"):
                shape = latent.shape[1:]
                drawn = [
                    torch.randn(shape, generator=self.turns[row].noise, device=latent.device)
                    for row in noisy
                ]
                latents[name] = latent.clone()
                latents[name][noisy] += (sigma * torch.stack(drawn)).to(latent.dtype)
        self.state = State(**latents)

    def measure_moves(self, logits: Float[Tensor, "batch seq vocab"]) -> None:
        """Record how far the logits have moved since the last look, on average over cells."""
        logits = logits.float()
        moves = change_of(logits, self.logits)
        first = torch.tensor([turn.steps == 0 for turn in self.turns], device=moves.device)
        moves = torch.where(first, math.nan, moves)  # the first look has nothing to compare with
        self.moves = torch.cat([self.moves[:, 1:], moves[:, None]], dim=1)
        self.logits = logits


def change_of(
    logits: Float[Tensor, "batch seq vocab"], before: Float[Tensor, "batch seq vocab"]
) -> Float[Tensor, " batch"]:
    """Measure how far the logits have moved, on average over cells (EqR)."""
    return (logits - before).norm(dim=-1).mean(-1)
