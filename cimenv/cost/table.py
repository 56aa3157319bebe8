"""Every constant of the cost model, with its source. Energies in pJ, areas in um^2, times in ns."""

from __future__ import annotations

# ISAAC (ISCA 2016), tables at 32 nm; the array and drivers are per 1-bit input cycle on 2-bit cells.
ISAAC_ADC_PJ = {4: 0.79, 5: 0.99, 6: 1.20, 7: 1.42, 8: 1.67, 9: 1.97, 10: 2.38}
ISAAC_ADC_UM2 = 1200.0  # .0012 mm^2, 8 bit
ISAAC_ADC_PER_NS = 1.2  # 1.2 GS/s
ISAAC_ARRAY_PJ = 30.0  # one 100 ns read of a 128 x 128 array
ISAAC_ARRAY_UM2 = 25.0  # 2.5e-5 mm^2
ISAAC_ARRAY_SIDE = 128
ISAAC_READ_NS = 100.0
ISAAC_DRIVER_PJ = 0.42  # one 1-bit row driver per cycle
ISAAC_DRIVER_UM2 = 0.167
ISAAC_SAMPLE_HOLD_UM2 = 0.039
ISAAC_SHIFT_ADD_PJ = 0.021
ISAAC_SHIFT_ADD_UM2 = 60.0
ISAAC_NODE_NM = 32

# NeuroSim's SAR converter, 8 bit, 32 nm: the low end of the range, about 7 x under ISAAC's; other widths scale alike.
NEUROSIM_ADC_8BIT_PJ = 0.23

# Horowitz (ISSCC 2014), 45 nm: int8 multiply + int32 accumulate, and a 64-bit read of an 8 KB SRAM.
INT8_MULTIPLY_PJ = 0.2
INT32_ADD_PJ = 0.1
SRAM_64BIT_READ_PJ = 10.0
DIGITAL_NODE_NM = 45

# One int8 multiply-accumulate unit at 45 nm with its registers, and 6T SRAM with periphery: our own choice.
MAC_UNIT_UM2 = 1000.0
SRAM_BIT_UM2 = 0.5
MACS_PER_CYCLE = 64  # our own choice: width of the digital unit
DIGITAL_GHZ = 1.0  # our own choice

# Energy by node relative to 45 nm (Stillmaker & Baas, 2017). Areas scale with the square of the node.
ENERGY_BY_NODE = {45: 1.0, 32: 0.66, 14: 0.14, 7: 0.094}
