"""How each operator of the fused graph becomes steps. Importing this package registers all of them (`emitter.emits`)."""

from axforge.axcompiler.registry import load_modules

load_modules(__name__)
