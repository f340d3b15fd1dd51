#!/bin/sh
# The linker of `.cargo/config.toml`: links a module as rustc would, and has wasm-opt make it a tenth smaller. So what is
# tested is what is shipped, whoever builds it.
set -e
if ! command -v wasm-opt > /dev/null; then
  echo 'wasm-opt is missing; to install it: apt-get install binaryen, or cargo xtask setup' >&2
  exit 1
fi
rust-lld "$@"
names=--debuginfo
for arg; do
  [ "$arg" != --strip-all ] || names=
  [ "$before" != -o ] || module=$arg
  before=$arg
done
# What rustc's target has, and the list that would say so is stripped. The stack ends in the first kilobyte of the
# memory, where nothing lies: addresses may be folded. What is fast is made small then: tails that are alike become one.
wasm-opt -O3 -Oz --low-memory-unused $names --enable-bulk-memory --enable-multivalue --enable-mutable-globals \
  --enable-nontrapping-float-to-int --enable-reference-types --enable-sign-ext "$module" --output "$module"
