"""The one frozen description of a crossbar."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from cimenv.core.config import Frozen
from cimenv.crossbar.devices import Device, LogNormal

BatchNormMode = Literal["none", "shared", "per_chip"]


class CrossbarConfig(Frozen):
    """Devices, array geometry, converters, and how batch norm is treated under variation.

    `batch_norm`: `none` keeps the trained statistics; `shared` re-estimates ONE set over many chips (statistical,
    no data from the chip in use); `per_chip` re-estimates them on every chip (a calibration, always named).
    """

    device: Device = LogNormal()
    batch_norm: BatchNormMode = "none"
    batch_norm_chips: int = Field(64, ge=1, description="chips that `shared` averages over")
    batch_norm_images: int = Field(1000, ge=2, description="training images shown for a recalibration")
    tile_rows: int = Field(128, ge=1, description="inputs of one array")
    tile_columns: int = Field(128, ge=1, description="device columns of one array")
    weight_bits: int = Field(8, ge=2, le=16, description="bits of a stored weight, for the cost model")
    device_bits: int = Field(2, ge=1, le=8, description="bits of one device, for the cost model")
    dac_bits: int = Field(8, ge=1, le=16, description="bits of an input, for the cost model")
    adc_bits: int = Field(8, ge=4, le=10, description="bits of a converted output, for the cost model")
    technology_nm: Literal[45, 32, 14, 7] = 32
