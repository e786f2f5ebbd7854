"""Everything that goes on changing while a network is trained by epochs, as tensors for a checkpoint."""

from collections.abc import Sequence

import torch
from torch import nn

from graft.training.checkpoints import Checkpoint


class EpochState:
    """The state of a network, its optimiser and its learning-rate cycle."""

    def __init__(
        self, network: nn.Module, optimiser: torch.optim.Optimizer, schedule: torch.optim.lr_scheduler.OneCycleLR
    ) -> None:
        self.network, self.optimiser, self.schedule = network, optimiser, schedule
        self.parameters = [p for group in optimiser.param_groups for p in group["params"]]

    def tensors(self, losses: Sequence[float]) -> dict[str, torch.Tensor]:
        """Return the state after an epoch."""
        found = {f"network.{name}": tensor for name, tensor in self.network.state_dict().items()}
        for at, parameter in enumerate(self.parameters):
            for name, value in self.optimiser.state[parameter].items():
                found[f"optimiser.{at}.{name}"] = torch.as_tensor(value)
        found["steps"] = torch.tensor(self.schedule.last_epoch)
        return found | {"losses": torch.tensor(list(losses), dtype=torch.float64)}

    def resume(self, checkpoint: Checkpoint | None) -> list[float]:
        """Take up the state of an interrupted run, if there is one; return the losses of its epochs."""
        found = checkpoint.read() if checkpoint else None
        if not found:
            return []
        self.network.load_state_dict(
            {name.removeprefix("network."): value for name, value in found.items() if name.startswith("network.")}
        )
        for name, value in found.items():
            if name.startswith("optimiser."):
                _, at, key = name.split(".")
                self.optimiser.state[self.parameters[int(at)]][key] = value
        self.optimiser._opt_called = True  # type: ignore[attr-defined]  # the schedule checks that it follows a step
        for _ in range(int(found["steps"])):
            self.schedule.step()
        losses: list[float] = found["losses"].tolist()
        return losses
