"""From kernels to an object file, with LLVM. Imported only when native code is not in the cache."""

from collections.abc import Sequence

import llvmlite.binding as llvm

from axforge.axruntime.engines.host.codegen.features import Isa
from axforge.axruntime.engines.host.codegen.module import KERNEL, module_text
from axforge.axruntime.engines.host.codegen.params import Kernel
from axforge.axruntime.engines.host.native.objcode import LinkedCode, link


def target_machine(isa: Isa, triple: str = "") -> llvm.TargetMachine:
    """LLVM's code generator for one path; nothing of the CPU at hand leaks into it."""
    if triple:
        llvm.initialize_all_targets()
        llvm.initialize_all_asmprinters()
        target = llvm.Target.from_triple(triple)
    else:
        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
        target = llvm.Target.from_default_triple()
    return target.create_target_machine(features=isa.llvm_features, opt=3, reloc="pic", codemodel="small")


def optimized(kernels: Sequence[Kernel], isa: Isa, machine: llvm.TargetMachine) -> llvm.ModuleRef:
    """The verified and optimized module."""
    module = llvm.parse_assembly(module_text(kernels, isa))
    module.triple = machine.triple
    module.data_layout = str(machine.target_data)
    module.verify()
    options = llvm.create_pipeline_tuning_options(speed_level=2)
    options.loop_vectorization = False
    options.loop_unrolling = False
    options.slp_vectorization = False
    builder = llvm.create_pass_builder(machine, options)
    builder.getModulePassManager().run(module, builder)
    return module


def compile_object(kernels: Sequence[Kernel], isa: Isa, triple: str = "") -> bytes:
    """ELF relocatable object with the kernels and the driver."""
    machine = target_machine(isa, _elf(triple))
    return bytes(machine.emit_object(optimized(kernels, isa, machine)))


def _elf(triple: str) -> str:
    """The same machine with ELF objects, which is what `objcode.link` reads, wherever this runs."""
    triple = triple or str(llvm.get_default_triple())
    return triple if "linux" in triple else triple.split("-")[0].replace("arm64", "aarch64") + "-unknown-linux-gnu"


def assembly(kernels: Sequence[Kernel], isa: Isa, triple: str = "") -> str:
    """The same as assembler text, to look at."""
    machine = target_machine(isa, triple)
    return str(machine.emit_assembly(optimized(kernels, isa, machine)))


def build(kernels: Sequence[Kernel], isa: Isa, triple: str = "") -> LinkedCode:
    """Linked code of the kernels in order, then of the driver. triple: another machine's, to try its code in an emulator."""
    return link(compile_object(kernels, isa, triple), [*(KERNEL.format(i) for i in range(len(kernels))), "run"])
