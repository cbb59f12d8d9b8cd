"""All kernels of a plan, and the driver that runs a program, as one module of LLVM IR."""

from collections.abc import Sequence

from axforge.axruntime.engines.host.codegen.families import generate
from axforge.axruntime.engines.host.codegen.features import Isa
from axforge.axruntime.engines.host.codegen.params import Kernel

#: symbol of kernel i
KERNEL = "k{}"

# run(bases, program, steps, thread, threads, barrier, yield): program is (kernel address, parameter address, flag) for each step; the flag
# says that no thread need wait after it. The barrier is two int32: arrivals and generation. A thread waits by
# spinning a while, then gives its time slice away between looks.
_DRIVER = """
define void @run(ptr %bases, ptr %program, i64 %steps, i64 %tid, i64 %nt, ptr %barrier, ptr %yield) nounwind {{
entry:
  %alone = icmp eq i64 %nt, 1
  %gen = getelementptr i8, ptr %barrier, i64 64
  br label %head
head:
  %i = phi i64 [ 0, %entry ], [ %next, %done ]
  %more = icmp slt i64 %i, %steps
  br i1 %more, label %body, label %exit
body:
  %at = mul i64 %i, 24
  %pf = getelementptr i8, ptr %program, i64 %at
  %pp = getelementptr i8, ptr %pf, i64 8
  %ps = getelementptr i8, ptr %pf, i64 16
  %f = load ptr, ptr %pf, align 8
  %p = load ptr, ptr %pp, align 8
  call void %f(ptr %bases, ptr %p, i64 %tid, i64 %nt)
  %same = load i64, ptr %ps, align 8
  %same_phase = icmp ne i64 %same, 0
  %go = or i1 %alone, %same_phase
  br i1 %go, label %done, label %arrive
arrive:
  %g = load atomic i32, ptr %gen acquire, align 4
  %n = atomicrmw add ptr %barrier, i32 1 acq_rel
  %n1 = add i32 %n, 1
  %nt32 = trunc i64 %nt to i32
  %last = icmp eq i32 %n1, %nt32
  br i1 %last, label %open, label %spin
open:
  store atomic i32 0, ptr %barrier release, align 4
  %g1 = add i32 %g, 1
  store atomic i32 %g1, ptr %gen release, align 4
  br label %done
spin:
  %k = phi i32 [ 0, %arrive ], [ %k1, %again ]
  {pause}
  %now = load atomic i32, ptr %gen acquire, align 4
  %unchanged = icmp eq i32 %now, %g
  br i1 %unchanged, label %wait, label %done
wait:
  %k1 = add i32 %k, 1
  %long = icmp ugt i32 %k1, 300
  %can = icmp ne ptr %yield, null
  %give = and i1 %long, %can
  br i1 %give, label %sleep, label %again
sleep:
  %r = call i32 %yield()
  br label %again
again:
  br label %spin
done:
  %next = add i64 %i, 1
  br label %head
exit:
  ret void
}}
"""


def module_text(kernels: Sequence[Kernel], isa: Isa) -> str:
    """LLVM IR of the kernels k0, k1, ... and of `run`."""
    declares: set[str] = set()
    bodies = []
    for i, kernel in enumerate(kernels):
        f = generate(KERNEL.format(i), kernel, isa)
        bodies.append(f.text())
        declares |= f.declares
    if isa.x86:
        declares.add("declare void @llvm.x86.sse2.pause()")
    driver = _DRIVER.format(pause="call void @llvm.x86.sse2.pause()" if isa.x86 else "")
    return "\n\n".join([*sorted(declares), *bodies, driver])
