"""The tile instructions of AMX in software, so that the code of the path `amx` runs on CPUs that have AVX-512 VNNI and VBMI only."""

import ctypes
import re

import pytest
from host_support import MemoryCache

from axforge.axruntime.engines.host.codegen import features
from axforge.axruntime.engines.host.native import compile as native

#: threads that may run at once; each has a configuration of 64 bytes and eight tiles of 1024
THREADS, STATE = 4, 64 + 8 * 1024

_CALL = re.compile(r"call void @llvm\.x86\.(ldtilecfg|tilerelease|tileloadd64|tilestored64|tdpbusd)\((.*)\)")
_FUNCTIONS = """
declare <16 x i32> @llvm.x86.avx512.vpdpbusd.512(<16 x i32>, <64 x i8>, <64 x i8>)

define internal ptr @soft.state(i64 %tid) {
  %own = mul i64 %tid, STATE
  %at = add i64 %own, ADDRESS
  %p = inttoptr i64 %at to ptr
  ret ptr %p
}
define internal ptr @soft.tile(i8 %t, i64 %tid) {
  %state = call ptr @soft.state(i64 %tid)
  %n = zext i8 %t to i64
  %size = mul i64 %n, 1024
  %at = add i64 %size, 64
  %p = getelementptr i8, ptr %state, i64 %at
  ret ptr %p
}
define internal i64 @soft.rows(i8 %t, i64 %tid) {
  %state = call ptr @soft.state(i64 %tid)
  %n = zext i8 %t to i64
  %at = add i64 %n, 48
  %p = getelementptr i8, ptr %state, i64 %at
  %rows = load i8, ptr %p
  %r = zext i8 %rows to i64
  ret i64 %r
}
define internal void @soft.ldtilecfg(ptr %cfg, i64 %tid) {
  %state = call ptr @soft.state(i64 %tid)
  %v = load <64 x i8>, ptr %cfg, align 1
  store <64 x i8> %v, ptr %state, align 1
  ret void
}
define internal void @soft.tilerelease(i64 %tid) {
  %state = call ptr @soft.state(i64 %tid)
  store <64 x i8> zeroinitializer, ptr %state, align 1
  ret void
}
define internal void @soft.move(ptr %to, i64 %dt, ptr %from, i64 %df, i64 %rows) {
entry:
  br label %head
head:
  %r = phi i64 [ 0, %entry ], [ %next, %body ]
  %more = icmp slt i64 %r, %rows
  br i1 %more, label %body, label %exit
body:
  %ot = mul i64 %r, %dt
  %of = mul i64 %r, %df
  %pt = getelementptr i8, ptr %to, i64 %ot
  %pf = getelementptr i8, ptr %from, i64 %of
  %v = load <64 x i8>, ptr %pf, align 1
  store <64 x i8> %v, ptr %pt, align 1
  %next = add i64 %r, 1
  br label %head
exit:
  ret void
}
define internal void @soft.tileloadd64(i8 %t, ptr %p, i64 %distance, i64 %tid) {
  %tile = call ptr @soft.tile(i8 %t, i64 %tid)
  %rows = call i64 @soft.rows(i8 %t, i64 %tid)
  call void @soft.move(ptr %tile, i64 64, ptr %p, i64 %distance, i64 %rows)
  ret void
}
define internal void @soft.tilestored64(i8 %t, ptr %p, i64 %distance, i64 %tid) {
  %tile = call ptr @soft.tile(i8 %t, i64 %tid)
  %rows = call i64 @soft.rows(i8 %t, i64 %tid)
  call void @soft.move(ptr %p, i64 %distance, ptr %tile, i64 64, i64 %rows)
  ret void
}
define internal void @soft.tdpbusd(i8 %d, i8 %a, i8 %b, i64 %tid) {
entry:
  %td = call ptr @soft.tile(i8 %d, i64 %tid)
  %ta = call ptr @soft.tile(i8 %a, i64 %tid)
  %tb = call ptr @soft.tile(i8 %b, i64 %tid)
  %rows = call i64 @soft.rows(i8 %a, i64 %tid)
  %words = mul i64 %rows, 16
  br label %head
head:
  %i = phi i64 [ 0, %entry ], [ %next, %body ]
  %more = icmp slt i64 %i, %words
  br i1 %more, label %body, label %exit
body:
  %r = udiv i64 %i, 16
  %k = urem i64 %i, 16
  %or = mul i64 %r, 64
  %ok = mul i64 %k, 64
  %oa = mul i64 %i, 4
  %pd = getelementptr i8, ptr %td, i64 %or
  %pa = getelementptr i8, ptr %ta, i64 %oa
  %pb = getelementptr i8, ptr %tb, i64 %ok
  %four = load i32, ptr %pa, align 1
  %one = insertelement <16 x i32> poison, i32 %four, i64 0
  %all = shufflevector <16 x i32> %one, <16 x i32> poison, <16 x i32> zeroinitializer
  %bytes = bitcast <16 x i32> %all to <64 x i8>
  %acc = load <16 x i32>, ptr %pd, align 1
  %w = load <64 x i8>, ptr %pb, align 1
  %sum = call <16 x i32> @llvm.x86.avx512.vpdpbusd.512(<16 x i32> %acc, <64 x i8> %bytes, <64 x i8> %w)
  store <16 x i32> %sum, ptr %pd, align 1
  %next = add i64 %i, 1
  br label %head
exit:
  ret void
}
"""


def _in_software(text: str, address: int, llvm_features: str) -> str:
    """The module with calls of functions in the place of tile instructions."""

    def call(found: re.Match[str]) -> str:
        arguments = ", ".join(filter(None, (found[2], "i64 %tid")))
        return f"call void @soft.{found[1]}({arguments})"

    functions = _FUNCTIONS.replace("STATE", str(STATE)).replace("ADDRESS", str(address))
    functions = re.sub(
        r"^(define .*\)) \{$", rf'\1 nounwind noinline "target-features"="{llvm_features}" {{', functions, flags=re.MULTILINE
    )
    if "@llvm.x86.avx512.vpdpbusd.512(<16 x i32>, " in text:
        functions = functions.replace("declare <16 x i32> @llvm.x86.avx512.vpdpbusd.512(<16 x i32>, <64 x i8>, <64 x i8>)", "")
    return _CALL.sub(call, text) + functions


@pytest.fixture(scope="module")
def software_tiles():
    """While it is used, `HostEngine(graph, cpu="amx", cache=...)` with the cache that it gives runs here."""
    base = next(path for path in features.PATHS if path.name == "avx512vnni")
    if not features.usable(base):
        pytest.skip("this CPU has no AVX-512 VNNI and VBMI")
    state = ctypes.create_string_buffer(THREADS * STATE)
    module_text = native.module_text

    def text(kernels, isa):
        return _in_software(module_text(kernels, isa), ctypes.addressof(state), base.llvm_features)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(native, "module_text", text)
        patch.setattr(features, "usable", lambda isa: True)
        yield MemoryCache()
