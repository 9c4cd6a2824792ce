#!/bin/sh
# What the stages of all Dockerfiles do, each into a folder of its own:
#   stage.sh tools               /opt/tools: what builds and lists; it reaches no image
#   stage.sh dependencies EXTRA  /opt/marquee: what an extra of pyproject.toml brings
#   stage.sh project             /project: the code that is there, and the list of what is in the image
set -eu
export PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_CONSTRAINT="$PWD/constraints.txt"

install() {
    /opt/tools/bin/pip --python /opt/marquee/bin/python install --no-compile --only-binary :all: "$@"
}

# Unchecked, because builders may change the times of files, and with a read-only root Python could
# not compile again what it takes for stale.
compile() {
    python -m compileall -qf --invalidation-mode unchecked-hash "$1"
}

case $1 in
tools)
    python -m venv /opt/tools
    /opt/tools/bin/pip install --only-binary :all: cyclonedx-bom setuptools
    # Published as source only; with setuptools as it is pinned, not the newest one.
    /opt/tools/bin/pip wheel --no-deps --no-build-isolation --wheel-dir /opt/tools/wheels kfp-server-api
    ;;
dependencies)
    python -m venv --without-pip /opt/marquee
    python images/requirements.py "$2" > requirements.txt
    install --find-links /opt/tools/wheels -r requirements.txt
    # A tenth of it is tests (those of evidently are its interface), and OpenVINO brings what it
    # needs for GPUs and NPUs, of which nothing is used here.
    find /opt/marquee/lib -depth -type d -name tests -not -path '*/evidently/*' -exec rm -r {} +
    find /opt/marquee/lib -path '*/openvino/libs/*' \
        \( -name 'libopenvino_intel_[gn]pu_plugin.so' -o -name cache.json \) -delete
    compile /opt/marquee/lib
    ;;
project)
    /opt/tools/bin/pip wheel --no-deps --no-build-isolation --wheel-dir wheels .
    install --no-index --no-deps --prefix /project wheels/*.whl
    compile /project/lib
    /opt/tools/bin/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible \
        -o /project/sbom.cdx.json /opt/marquee/bin/python
    ;;
esac
