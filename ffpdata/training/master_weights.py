"""AdamW on float32 copies of what is trained. Importing this module imports torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch


class MasterWeights:
    """AdamW on float32 copies of half-precision parameters, in which small steps would be rounded away.

    Args:
        learned: name to parameter.
        rate: learning rate of a step, which is counted from 0.
        weight_decay: AdamW's.
        clip_norm: largest norm of a gradient; None leaves it as it is.
    """

    def __init__(
        self,
        learned: Mapping[str, torch.nn.Parameter],
        rate: Callable[[int], float],
        weight_decay: float,
        clip_norm: float | None = None,
    ) -> None:
        self._learned = dict(sorted(learned.items()))
        self._rate, self._clip_norm = rate, clip_norm
        self._copies = {name: value.detach().float().clone() for name, value in self._learned.items()}
        self.optimizer = torch.optim.AdamW(list(self._copies.values()), lr=rate(0), weight_decay=weight_decay)

    def step(self, number: int) -> float:
        """Make one optimizer step, clear the gradients, and return their norm before it was clipped.

        Args:
            number: of the step, from 0.
        """
        for name, copy in self._copies.items():
            grad = self._learned[name].grad
            copy.grad = torch.zeros_like(copy) if grad is None else grad.detach().float()
            self._learned[name].grad = None
        copies = list(self._copies.values())
        total = torch.nn.utils.get_total_norm([copy.grad for copy in copies if copy.grad is not None])
        if self._clip_norm is not None:
            torch.nn.utils.clip_grads_with_norm_(copies, self._clip_norm, total)
        for group in self.optimizer.param_groups:
            group["lr"] = self._rate(number)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self._write()
        return float(total)

    def state(self) -> dict[str, torch.Tensor]:
        """Return the training state as tensors: `<layer>|weight` and AdamW's `<layer>|<kind>`."""
        found = {}
        for name, copy in self._copies.items():
            found[f"{name}|weight"] = copy
            for kind, value in self.optimizer.state.get(copy, {}).items():
                found[f"{name}|{kind}"] = value
        return {name: value.detach().to("cpu").contiguous().clone() for name, value in found.items()}

    def load(self, state: Mapping[str, torch.Tensor]) -> None:
        """Restore a state of `state`."""
        kept: dict[str, dict[str, torch.Tensor]] = {}
        for key, value in state.items():
            name, _, kind = key.rpartition("|")
            kept.setdefault(name, {})[kind] = value
        for name, copy in self._copies.items():
            values = kept[name]
            copy.copy_(values.pop("weight"))
            # AdamW keeps its count of steps on the CPU (torch.optim, `capturable`).
            self.optimizer.state[copy] = {
                kind: value.clone() if kind == "step" else value.to(copy, copy=True) for kind, value in values.items()
            }
        self._write()

    def _write(self) -> None:
        with torch.no_grad():
            for name, copy in self._copies.items():
                self._learned[name].copy_(copy)
