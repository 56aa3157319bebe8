"""An LSTM that reads an image row by row, written out as its two matrices."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class RowLstm(nn.Module):
    """One LSTM layer over the rows of an image (Hochreiter and Schmidhuber, 1997), and one layer on its last state.

    The matrix of the inputs serves all rows at once; that of the hidden state is called once a row after the first.
    """

    def __init__(self, classes: int = 10, rows: int = 28, row_values: int = 28, hidden: int = 128) -> None:
        super().__init__()
        self.rows = rows
        self.input = nn.Linear(row_values, 4 * hidden)
        self.hidden = nn.Linear(hidden, 4 * hidden, bias=False)
        for layer in (self.input, self.hidden):
            layer.site_type = "lstm"  # type: ignore[assignment]
        with torch.no_grad():
            self.input.bias[hidden : 2 * hidden].fill_(1.0)  # gates that forget little at first
        self.head = nn.Linear(hidden, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits `[n, classes]` of images `[n, c, rows, values]`, channels side by side."""
        gates = self.input(images.transpose(1, 2).flatten(2))
        i, f, g, o = gates[:, 0].chunk(4, -1)
        c = i.sigmoid() * g.tanh()
        h = o.sigmoid() * c.tanh()
        for row in range(1, self.rows):
            i, f, g, o = (gates[:, row] + self.hidden(h)).chunk(4, -1)
            c = f.sigmoid() * c + i.sigmoid() * g.tanh()
            h = o.sigmoid() * c.tanh()
        return self.head(h)


def lstm_rows(classes: int = 10, in_channels: int = 1, hidden: int = 128, size: int = 28) -> RowLstm:
    """An LSTM over the rows of `size` x `size` images: 3 matrices, 81,674 parameters at 128 hidden values."""
    return RowLstm(classes, size, size * in_channels, hidden)
