# Where the harness cannot do what a user's machine does: no container engine, no kubelet, no TLS at the registry, and the
# command was built before.
set -euo pipefail

cargo() {
  case "$1" in
    wasm) (cd "$ROOT" && command cargo "$@") ;;
    install) test -f "${!#}/Cargo.toml" ;;
    *) return 1 ;;
  esac
}

docker() {
  case "$1" in
    build) test -f "$5" && test -d "${!#}/examples" ;;
    push) ;;
    *) return 1 ;;
  esac
}

meltemi() {
  case "$1" in
    push) "$MELTEMI" "$@" --plain-http ;;
    *) "$MELTEMI" "$@" ;;
  esac
}

kubectl() {
  case "$*" in
    # The next lines of what does not end. The container is called as its Deployment.
    "--namespace "*" logs deployment/"*" --follow")
      head --lines 5 < <(tail --follow --lines 0 "$LOGS/$2-${4#*/}-${4#*/}.log")
      ;;
    *) command kubectl "$@" ;;
  esac
}
