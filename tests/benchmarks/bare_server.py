"""A language server that does nothing, as pygls' page begins: what ours is compared with when it starts."""

from __future__ import annotations

from pygls.lsp.server import LanguageServer

LanguageServer("bare", "1").start_io()
