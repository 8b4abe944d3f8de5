"""Debian builds PyTorch without libuv, yet TCPStore asks for it unless told otherwise, and torchrun has no option for it.

This hook makes "no libuv" the default, the moment torch.distributed is imported. Python reads it through the .pth file
beside it.
"""

import sys
from importlib.abc import MetaPathFinder


class _Hook(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        # By then torch.distributed has its classes, and nothing else has taken them from there.
        if name.startswith("torch.distributed."):
            sys.meta_path.remove(self)
            _set_default()
        return None


def _set_default():
    distributed = sys.modules["torch.distributed"]
    compiled = sys.modules["torch._C._distributed_c10d"]

    class TCPStore(compiled.TCPStore):
        def __init__(self, *arguments, **options):
            super().__init__(*arguments, **{**options, "use_libuv": False})

    distributed.TCPStore = compiled.TCPStore = TCPStore


sys.meta_path.insert(0, _Hook())
