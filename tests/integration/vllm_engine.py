"""What vLLM's V1 engine does with a logits processor, for one batch: a stub, since vLLM is not installed.

`BatchUpdate` and `MoveDirectionality` have the fields and the meaning of ``vllm.v1.sample.logits_processor``. `Engine`
keeps a dense batch as vLLM does: a request that ends leaves a hole, which the next one or the last one takes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any

import torch


class MoveDirectionality(Enum):
    UNIDIRECTIONAL = auto()
    SWAP = auto()


@dataclass(frozen=True)
class BatchUpdate:
    batch_size: int
    removed: list[int]
    added: list[tuple[int, Any, list[int] | None, list[int]]]
    moved: list[tuple[int, int, MoveDirectionality]]


@dataclass
class SamplingParams:
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    extra_args: dict[str, Any] | None = None


@dataclass
class SchedulerConfig:
    async_scheduling: bool = False


@dataclass
class VllmConfig:
    additional_config: Any = field(default_factory=dict)
    scheduler_config: SchedulerConfig = field(default_factory=SchedulerConfig)


@dataclass
class Request:
    prompt: list[int]
    params: SamplingParams
    tokens: int
    output: list[int] = field(default_factory=list)


class Engine:
    """Writes the tokens of requests with a function from contexts to logits."""

    def __init__(self, processor: Any, model: Any, slots: int, seed: int = 0) -> None:
        self.processor, self.model, self.slots = processor, model, slots
        self.batch: list[Request] = []
        self.generator = torch.Generator().manual_seed(seed)

    def run(self, requests: list[Request], *, shuffle: bool = False, interrupt_at: int | None = None) -> None:
        waiting, step = list(requests), 0
        while waiting or self.batch:
            removed = [i for i, r in enumerate(self.batch) if len(r.output) == r.tokens]
            if interrupt_at == step and self.batch and not removed:
                removed = [0]
                waiting.append(self.batch[0])
            added, moved, holes = [], [], list(removed)
            kept: list[Request | None] = [None if i in removed else r for i, r in enumerate(self.batch)]
            while waiting and (holes or len(kept) < self.slots):
                index = holes.pop(0) if holes else len(kept)
                kept[index : index + 1] = [waiting.pop(0)]
                added.append((index, kept[index].params, kept[index].prompt, kept[index].output))
            while None in kept:  # the last request fills the first hole
                last = kept.pop()
                if last is not None:
                    hole = kept.index(None)
                    kept[hole] = last
                    moved.append((len(kept), hole, MoveDirectionality.UNIDIRECTIONAL))
            if shuffle and len(kept) > 1:
                kept[0], kept[-1] = kept[-1], kept[0]
                moved.append((0, len(kept) - 1, MoveDirectionality.SWAP))
            self.batch = kept
            update = BatchUpdate(len(kept), removed, added, moved) if removed or added or moved else None
            self.processor.update_state(update)
            if not kept:
                return
            logits = self.processor.apply(torch.stack([self.model([*r.prompt, *r.output]) for r in kept]))
            for row, request in zip(logits, kept, strict=True):
                request.output.append(self.sample(row, request.params))
            step += 1

    def sample(self, row: torch.Tensor, params: SamplingParams) -> int:
        if params.temperature < 1e-5:
            return int(row.argmax())
        row = row / params.temperature
        if params.top_k:
            row = row.masked_fill(row < row.topk(params.top_k).values[-1], -torch.inf)
        return int(torch.multinomial(row.softmax(0), 1, generator=self.generator))
