#!/bin/sh
# Takes out of an image's site-packages what a running server or client never reads. Usage: prune.sh SITE_PACKAGES
set -eu
cd "$1"

# Development files of torch. torch/bin keeps torch_shm_manager, which torch.multiprocessing starts.
if [ -d torch ]; then
    rm -rf torch/include torch/share torch/test torch/lib/*_test.so
    find torch/bin -type f ! -name torch_shm_manager -delete
    strip --strip-unneeded torch/lib/libtorch_cpu.so   # 90 MB of local symbols
fi
# Of ONNX Runtime what converts and tunes models, and a second copy for programs in C: Python's own has all of it.
if [ -d onnxruntime ]; then
    rm -rf onnxruntime/transformers onnxruntime/quantization onnxruntime/tools onnxruntime/datasets
    rm -f onnxruntime/capi/libonnxruntime.so.*
fi
find . -name '*.pyi' -delete
find . -type d \( -name tests -o -name __pycache__ \) -prune -exec rm -rf {} +

# Of scikit-learn only the digits file is read, by its path.
if [ -d sklearn ]; then
    mv sklearn/datasets/data/digits.csv.gz .
    rm -rf sklearn scikit_learn.libs
    mkdir -p sklearn/datasets/data
    mv digits.csv.gz sklearn/datasets/data/
    echo '"""Pruned: this image keeps only scikit-learn'"'"'s digits file."""' > sklearn/__init__.py
fi
