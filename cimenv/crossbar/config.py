"""The one frozen description of a crossbar."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any, Literal

from pydantic import (
    Field,
    PrivateAttr,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)

from cimenv.core.config import Frozen, merged
from cimenv.core.errors import ConfigError
from cimenv.crossbar.converters import CONVERTERS
from cimenv.crossbar.device import DeviceModel
from cimenv.crossbar.devices import LogNormal
from cimenv.crossbar.presets import preset_fields

BatchNormMode = Literal["none", "shared", "per_chip"]


NETWORK_WIDE = {
    "preset",
    "overrides",
    "digital",
    "batch_norm",
    "batch_norm_chips",
    "batch_norm_images",
    "input_quantile",
}


class CrossbarConfig(Frozen):
    """Devices, array geometry, converters, and how batch norm is treated under variation.

    `analog` switches the chain of `cimenv.crossbar.mvm` on for networks: input ranges, converters, IR drop, noise and
    row scales, tile by tile. Without it products with the programmed weights are exact, and the converters count for
    the cost alone. A part whose field is 0 or None is off.

    `batch_norm`: `none` keeps the trained statistics; `shared` re-estimates ONE set over many chips (statistical,
    no data from the chip in use); `per_chip` re-estimates them on every chip (a calibration, always named).
    """

    device: DeviceModel = LogNormal()
    analog: bool = Field(False, description="simulate converters, IR drop and read noise of every product")
    batch_norm: BatchNormMode = "none"
    batch_norm_chips: int = Field(64, ge=1, le=10_000, description="chips that `shared` averages over")
    batch_norm_images: int = Field(1000, ge=2, le=1_000_000, description="training images shown for a recalibration")
    max_inputs: int | None = Field(
        128, ge=0, le=1_000_000, description="inputs of one array; 0 or None: no matrix is split"
    )
    tile_columns: int = Field(128, ge=1, le=1_000_000, description="device columns of one array")
    weight_bits: int = Field(8, ge=2, le=16, description="bits of a stored weight, for the cost model")
    device_bits: int = Field(2, ge=1, le=8, description="bits of one device, for the cost model")
    dac_bits: int | None = Field(8, ge=0, le=16, description="bits of an input: 2^B - 2 steps")
    adc_bits: int | None = Field(8, ge=0, le=16, description="bits of an output: 2^B - 2 steps")
    adc_bound: float = Field(
        10.0, ge=1e-6, le=1e6, description="largest output, in units of the largest weight times input"
    )
    dac: str = Field("uniform", description="kind of the converters of inputs")
    adc: str = Field("uniform", description="kind of the converters of outputs")
    row_scaling: bool = Field(True, description="scale the rows of every tile to a largest weight of 1")
    input_noise: float = Field(0.0, ge=0, le=1e6, description="of every converted input, in units of the input range")
    output_noise: float = Field(
        0.0, ge=0, le=1e6, description="of every output, in units of the largest weight times input"
    )
    read_noise: float = Field(
        0.0, ge=0, le=1e6, description="of every device at a read; outputs get sqrt(sum |w| u^2) of it"
    )
    ir_drop: float = Field(
        0.0, ge=0, le=1e6, description="scale of the current lost to wire resistance; 1: as published"
    )
    voltage_offset: float = Field(0.0, ge=0, le=1e6, description="spread over outputs of an offset of all inputs")
    s_shape: float = Field(0.0, ge=0, le=1e6, description="nl: saturation y / (1 + nl |y| / adc_bound)")
    s_shape_spread: float = Field(0.0, ge=0, le=1e6, description="relative spread of nl over outputs")
    s_shape_calibration: float = Field(0.0, ge=0, le=1e6, description="how much of the S-shape's slope is scaled back")
    drift_compensation: bool = Field(True, description="scale outputs by what a reading of the whole tile has lost")
    input_quantile: float = Field(0.9995, gt=0, le=1, description="quantile of |input| that sets the input ranges")
    overrides: dict[str, dict[str, Any]] = Field(
        {}, description="other fields for layers whose name matches a pattern, e.g. {'fc*': {'adc_bits': 10}}"
    )
    digital: tuple[str, ...] = Field((), description="name patterns of layers that stay off the crossbar")
    technology_nm: Literal[45, 32, 14, 7] = 32

    @model_validator(mode="before")
    @classmethod
    def _from_preset(cls, fields: Any) -> Any:
        if isinstance(fields, str):
            return preset_fields(fields)
        if isinstance(fields, dict) and "preset" in fields:
            own = {name: value for name, value in fields.items() if name != "preset"}
            return merged(preset_fields(fields["preset"]), own)
        return fields

    @field_validator("dac", "adc")
    @classmethod
    def _known(cls, kind: str) -> str:
        return CONVERTERS.written(CONVERTERS.find(kind))

    @model_serializer(mode="wrap")
    def _without_what_is_off(self, fields: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Return the fields; kinds of converters, which came later, leave keys as they were while they are uniform."""
        shown: dict[str, Any] = fields(self)
        return {name: value for name, value in shown.items() if name not in ("dac", "adc") or value != "uniform"}

    @property
    def converter_versions(self) -> dict[str, int]:
        """Return the versions of converters whose levels have changed, for keys."""
        kinds = {kind for config in (self, *self._overridden.values()) for kind in (config.dac, config.adc)}
        return {kind: version for kind in sorted(kinds) if (version := CONVERTERS.find(kind).version) != 1}

    _overridden: dict[str, CrossbarConfig] = PrivateAttr(default_factory=dict)

    @model_validator(mode="after")
    def _check(self) -> CrossbarConfig:
        for field in ("dac_bits", "adc_bits"):
            if getattr(self, field) == 1:
                raise ValueError(f"{field} is 1; a symmetric converter needs at least 2 bits, 0 switches it off")
        if self.overrides:
            for pattern, changes in self.overrides.items():
                if whole := sorted(set(changes) & NETWORK_WIDE):
                    raise ValueError(f"overrides['{pattern}'].{whole[0]} holds for the whole network; set it there")
            plain = self.model_dump(mode="json", exclude={"overrides"})
            self._overridden = {name: _overridden(plain, name, changes) for name, changes in self.overrides.items()}
        return self

    def devices(self) -> tuple[DeviceModel, ...]:
        """Return the devices of all layers: the network's own and those of its overrides."""
        return (self.device, *(made.device for made in self._overridden.values()))

    @property
    def any_analog(self) -> bool:
        """Return whether the products of any layer run through the analog chain."""
        return self.analog or any(made.analog for made in self._overridden.values())

    def at(self, site: str) -> CrossbarConfig:
        """Return the configuration of one layer: the first override whose pattern matches its name, or this one."""
        return next((made for pattern, made in self._overridden.items() if fnmatchcase(site, pattern)), self)


def _overridden(plain: Mapping[str, Any], pattern: str, changes: Mapping[str, Any]) -> CrossbarConfig:
    try:
        return CrossbarConfig(**merged(plain, changes))
    except ConfigError as error:
        field = str(error).removeprefix("CrossbarConfig")
        raise ConfigError(f"CrossbarConfig.overrides.{pattern}{field}") from None


def preset(name: str, **changes: Any) -> CrossbarConfig:
    """Return a crossbar named after its source, with other values for some fields.

    Args:
        name: `ideal`, `lognormal`, `write_verify`, `pcm`, `reram_wan2022` or `rasch2023`.
        changes: fields of `CrossbarConfig`.

    Raises:
        UnknownNameError: no such preset.
        ConfigError: a field is unknown or holds a value that is not allowed.
    """
    return CrossbarConfig(**merged(preset_fields(name), changes))
