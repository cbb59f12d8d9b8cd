"""A program as text: an instruction on each line, under the name of its layer."""

from axforge.axcompiler.isa import DecodedInstruction, records
from axforge.axcompiler.program import NONE, Kind, Program, Space


def operand_text(program: Program, index: int) -> str:
    """An operand: memory, address, type, shape and strides in bytes."""
    row = program.operands[index]
    buffer, rank = program.buffers[row["buffer"]], int(row["rank"])
    address = int(buffer["offset"]) + int(row["offset"])
    shape, strides = (",".join(str(int(v)) for v in row[f][:rank]) for f in ("shape", "strides"))
    kind = Kind(int(row["kind"])).name.lower()
    return f"{Space(int(buffer['space'])).name}+{address:#x}:{kind}[{shape}]({strides})"


def disassembly(program: Program, core: int | None = None) -> str:
    """The instructions of one core, or of all."""
    lines = []
    for number, stream in enumerate(program.streams):
        if core is not None and number != core:
            continue
        lines.append(f"\ncore {number}")
        layer = -1
        for at, instruction in enumerate(records(stream)):
            if instruction.layer != layer:
                layer = instruction.layer
                lines.append(f"  {program.header.layers[layer] if program.header.layers else ''}:")
            lines.append(f"    {at:5} {_instruction(program, instruction)}")
    return "\n".join(lines)


def _instruction(program: Program, instruction: DecodedInstruction) -> str:
    """Mnemonic, operands, immediates and flags by name, and the epilogue."""
    text = instruction.opcode.name.lower()
    for slot, index in instruction.operands.items():
        text += f" {slot}={operand_text(program, index)}"
    for name, value in instruction.values.items():
        if not isinstance(value, bool):
            text += f" {name}={value:g}" if isinstance(value, float) else f" {name}={value}"
        elif value:
            text += f" {name}"
    if instruction.epilogue != NONE:
        row = program.epilogues[instruction.epilogue]
        table = " table" if int(row["table"]) != NONE else ""
        text += f" -> +{int(row['zero_point'])} clamp {int(row['lo'])}..{int(row['hi'])}{table}"
    return text
