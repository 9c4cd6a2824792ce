#!/usr/bin/env bash
# Builds images from the Dockerfiles, as `make images` does: build.sh NAME... ; docs/images.md tells of the
# variables. Each image's list of its software (SBOM) is left in dist/images/.
set -euo pipefail
cd "$(dirname "$0")/.."

declare -A dockerfile=(
  [data]=components/Dockerfile
  [train]=components/Dockerfile
  [monitoring]=monitoring/Dockerfile
  [serving]=serving/Dockerfile
)
prefix=${IMAGE_PREFIX:-marquee}
version=$(sed -n 's/^__version__ = "\(.*\)"$/\1/p' marquee/__init__.py)
tag=${IMAGE_TAG:-$version}

fail() {
  printf 'error: %s\n  try: %s\n' "$1" "$2" >&2
  exit 2
}

for name in "$@"; do
  [[ -n ${dockerfile[$name]:-} ]] || fail "there is no image $name" "name some of: ${!dockerfile[*]}"
done

# A client of Docker without its daemon builds nothing.
builds() { "$1" version >/dev/null 2>&1; }
if [[ -n ${IMAGE_TOOL:-} ]]; then
  builds "$IMAGE_TOOL" || fail "$IMAGE_TOOL does not answer" "start it, or unset IMAGE_TOOL"
  tool=$IMAGE_TOOL
elif builds buildah; then
  tool=buildah
elif builds docker; then
  tool=docker
else
  fail "neither buildah nor a Docker daemon is here" \
    "install buildah (on Debian: apt-get install buildah), start Docker, or set IMAGE_TOOL=podman"
fi

created=$(git log -1 --format=%ct)
source=${IMAGE_SOURCE:-$(git config --get remote.origin.url || true)}
# A path says nothing elsewhere, and what stands before an @ may be a password.
[[ $source == http*://* ]] && source=$(sed -E 's|//[^/@]*@|//|' <<<"$source") || source=
arguments=(
  --build-arg "VERSION=$version"
  --build-arg "REVISION=$(git describe --always --dirty --abbrev=40 --exclude '*')"
  --build-arg "CREATED=$(TZ=UTC git log -1 --date=format-local:%Y-%m-%dT%H:%M:%SZ --format=%cd)"
  --build-arg "SOURCE=$source"
  --build-arg "SOURCE_DATE_EPOCH=$created"
)
[[ -n ${IMAGE_PYTHON:-} ]] && arguments+=(--build-arg "PYTHON=$IMAGE_PYTHON")
# Docker keeps layers anyway, and takes the time of the commit from SOURCE_DATE_EPOCH.
[[ $tool == docker ]] || arguments+=(--layers --timestamp "$created")

mkdir -p dist/images
for name in "$@"; do
  image=$prefix-$name:$tag
  "$tool" build --file "${dockerfile[$name]}" --target "$name" --tag "$image" "${arguments[@]}" .
  if [[ $tool == buildah ]]; then
    container=$(buildah from --pull-never "$image")
    buildah run "$container" -- cat /opt/marquee/sbom.cdx.json >"dist/images/$name.cdx.json"
  else
    container=$("$tool" create "$image")
    "$tool" cp "$container:/opt/marquee/sbom.cdx.json" "dist/images/$name.cdx.json"
  fi
  "$tool" rm "$container" >/dev/null
  echo "$image; what is in it: dist/images/$name.cdx.json"
done
