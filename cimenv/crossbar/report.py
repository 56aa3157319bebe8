"""What of a network lies on the crossbar, and what stays digital and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

ENOUGH = 0.95  # of the MACs; below it a mapping deserves a warning
SHOWN = 12  # digital parts with products
NAMED = 4  # names a reason


@dataclass(frozen=True)
class Unmapped:
    """A part of a network that stays digital.

    Attributes:
        name: of the parameter or the layer.
        weights: numbers that it holds.
        macs: multiply-accumulates per image.
        reason: why it is not mapped.
    """

    name: str
    weights: int
    macs: int
    reason: str


@dataclass(frozen=True)
class MappingReport:
    """Shares of a network on the crossbar.

    Attributes:
        weights: mapped weights.
        macs: multiply-accumulates per image with mapped weights; 0 where no forward pass was seen.
        sites: number of mapped matrices.
        unmapped: what stays digital.
        between_activations: multiply-accumulates per image of products of two activations, as in attention: digital.
        notes: what a reader should know, a sentence each.
    """

    weights: int
    macs: int
    sites: int
    unmapped: tuple[Unmapped, ...] = ()
    between_activations: int = 0
    notes: tuple[str, ...] = field(default=())

    @property
    def weight_share(self) -> float:
        """Return the mapped share of all numbers in parameters."""
        return _share(self.weights, self.weights + sum(part.weights for part in self.unmapped))

    @property
    def mac_share(self) -> float:
        """Return the mapped share of the multiply-accumulates with stored weights."""
        return _share(self.macs, self.macs + sum(part.macs for part in self.unmapped))

    @property
    def warning(self) -> str | None:
        """Return one sentence where less than 95 % of the MACs with stored weights are mapped."""
        if self.mac_share >= ENOUGH:
            return None
        names = ", ".join(part.name for part in _largest(self.unmapped)[:3] if part.macs)
        return (
            f"Only {self.mac_share:.1%} of the multiply-accumulates with stored weights are on the crossbar; "
            f"digital stay {names}: results hold for a machine that computes these exactly."
        )

    def __str__(self) -> str:
        lines = [
            f"{self.sites} sites; on the crossbar: {self.weight_share:.1%} of the weights ({self.weights:,})"
            + (f", {self.mac_share:.1%} of the MACs ({self.macs:,} an image)" if self.macs else "")
        ]
        products = [part for part in _largest(self.unmapped) if part.macs]
        lines += [_line(part) for part in products[:SHOWN]]
        if len(products) > SHOWN:
            lines.append(f"  digital: {len(products) - SHOWN} more, see .unmapped")
        lines += _by_reason([part for part in self.unmapped if not part.macs])
        if self.between_activations:
            lines.append(f"  digital: products of two activations, {self.between_activations:,} MACs an image")
        lines += [f"  note: {note}" for note in self.notes]
        if self.warning:
            lines.append(f"  warning: {self.warning}")
        return "\n".join(lines)


def _line(part: Unmapped) -> str:
    return f"  digital: {part.name} ({part.weights:,} weights, {part.macs:,} MACs): {part.reason}"


def _by_reason(parts: Sequence[Unmapped]) -> list[str]:
    """Return a line a reason, with the names that fit on it."""
    lines = []
    for reason in dict.fromkeys(part.reason for part in _largest(parts)):
        names = [part.name for part in _largest(parts) if part.reason == reason]
        numbers = sum(part.weights for part in parts if part.reason == reason)
        more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
        lines.append(f"  digital: {numbers:,} numbers, {reason}: {', '.join(names[:NAMED])}{more}")
    return lines


def _largest(parts: Sequence[Unmapped]) -> list[Unmapped]:
    return sorted(parts, key=lambda part: (-part.macs, -part.weights, part.name))


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 1.0
