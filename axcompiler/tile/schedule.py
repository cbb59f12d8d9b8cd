"""schedule.json: what the compiler decided, for people and tools to read."""

import msgspec
import numpy as np

from axforge.axcompiler.ir import Graph
from axforge.axcompiler.isa import OPCODES, Opcode
from axforge.axcompiler.program import Program, Space
from axforge.axcompiler.target import Target
from axforge.axcompiler.tile.memory import MemoryPlan


def l1_bytes(program: Program) -> list[int]:
    """Bytes of L1 that each layer takes on the core that takes most."""
    rows = program.buffers[program.buffers["space"] == Space.L1]
    out = [0] * len(program.header.layers)
    for core in range(program.header.cores):
        mine = rows[rows["core"] == core]
        for layer in np.unique(mine["first"]):
            part = mine[mine["first"] == layer]
            out[layer] = max(out[layer], int((part["offset"] + part["size"]).max() - part["offset"].min()))
    return out


def schedule_json(graph: Graph, program: Program, plan: MemoryPlan, target: Target) -> bytes:
    """Memory plan, and instructions and DMA of every layer on every core."""
    layers, l1 = [], l1_bytes(program)
    for i, op in enumerate(graph.ops):
        counts = [stream["op"][stream["layer"] == i] for stream in program.streams]
        layers.append(
            {
                "name": op.name,
                "operator": op.tag(),
                "multiply_adds": op.multiply_adds(graph),
                "l1_bytes": l1[i],
                "instructions": [
                    {OPCODES[int(code)].name: int(n) for code, n in zip(*np.unique(c[c != Opcode.END], return_counts=True), strict=True)}
                    for c in counts
                ],
            }
        )
    tensors = {}
    for name, place in sorted(plan.places.items()):
        row = program.buffers[place.view.buffer]
        tensors[name] = {
            "memory": Space(int(row["space"])).name,
            "offset": int(row["offset"]),
            "bytes": int(row["size"]),
            "layers": [int(row["first"]), int(row["last"])] if row["space"] != Space.CONST else None,
        }
    header = program.header
    document = {
        "target": msgspec.to_builtins(target),
        "cores": header.cores,
        "instructions": [len(s) for s in program.streams],
        "memory": {
            **msgspec.to_builtins(plan.report),
            "l1_peak": max(l1, default=0),
            "l1_usable": target.memories.l1.usable,
            "l2_usable": target.memories.l2.usable,
            "ddr_usable": target.memories.ddr.usable,
            "constants": header.const_size,
        },
        "layers": layers,
        "tensors": tensors,
    }
    return msgspec.json.format(msgspec.json.encode(document), indent=1) + b"\n"
