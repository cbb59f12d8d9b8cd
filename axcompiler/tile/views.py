"""The tiler's views of memory: its buffers are numbered."""

from axforge.axcompiler.strides import StridedView

View = StridedView[int]
