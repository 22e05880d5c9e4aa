"""The native engine: the whole network in one function of C++, whose activations stay in the caches.

| file | |
|---|---|
| `source/` | the function: [engine.cpp](source/engine.cpp) from above, the kernels in headers |
| `library.py` | which file it was compiled to, for which instructions |
| `compiler.py` | compiles it |
| `pack.py`, `packing.py` | the weights as it reads them: the file, and how it is made |
| `engine.py` | `NativeEngine`, the binding |

``python -m inference.engines.native [FOLDER OF A MODEL]`` compiles, and packs the model's weights.
"""
