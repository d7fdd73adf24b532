#!/usr/bin/env bash
# What the simulator is worth: each fault below is put into a copy of the tree, and must be found.
#
#   tests/sim/mutants.sh [NAME...]     prints a table; fails when one survives or does not apply
#
# SEEDS: seeds per mutant, 1000 by default. A mutant is one substitution that must change its file.
# Not part of CI: it builds the engine once per mutant.
set -euo pipefail

root=$(git -C "$(dirname "$0")" rev-parse --show-toplevel)
seeds=${SEEDS:-1000}
step=100
target=${CARGO_TARGET_DIR:-$root/target}/mutants
copy=$target/tree
survived=0
wanted=("$@")
engine=crates/engine/src

mkdir -p "$copy"
(cd "$root" && git ls-files -z | xargs -0 tar cf -) | tar xf - -C "$copy"

mutant() {
    local name=$1 file=$2 change=$3
    if [ ${#wanted[@]} -gt 0 ] && [[ ! " ${wanted[*]} " == *" $name "* ]]; then
        return
    fi
    cp "$root/$file" "$copy/$file"
    perl -0pi -e "$change" "$copy/$file"
    if cmp -s "$root/$file" "$copy/$file"; then
        printf '%-32s does not apply to %s\n' "$name" "$file"
        survived=1
        return
    fi
    if ! (cd "$copy" && CARGO_TARGET_DIR=$target cargo build --quiet --offline -p sim) 2> "$target/$name.log"; then
        printf '%-32s does not build: see %s\n' "$name" "$target/$name.log"
        survived=1
    else
        local found='' first=0
        while [ -z "$found" ] && [ "$first" -lt "$seeds" ]; do
            found=$("$target/debug/sim" --seeds "$first..$((first + step))" | grep -m 1 FAILED || true)
            first=$((first + step))
        done
        printf '%-32s %s\n' "$name" "${found:-SURVIVES $seeds seeds}"
        # Without a fault nothing may be found.
        if [ "$name" = none ] && [ -n "$found" ]; then survived=1; fi
        if [ "$name" != none ] && [ -z "$found" ]; then survived=1; fi
    fi
    cp "$root/$file" "$copy/$file"
}

mutant none README.md 's/\z/\n/'
mutant commit-one-too-far $engine/offsets.rs \
    's/let frontier = self\.frontier\(\)\?;/let frontier = self.frontier()? + i64::from(!self.incomplete.is_empty());/; s/holes: self\.incomplete\.iter\(\)\.copied\(\)\.collect\(\)/holes: self.incomplete.iter().copied().filter(|hole| *hole >= frontier).collect()/'
mutant holes-forgotten $engine/offsets.rs \
    's/incomplete: map\.holes\.into_iter\(\)\.collect\(\)/incomplete: BTreeSet::new()/'
mutant claims-not-compared $engine/worker.rs \
    's/Some\(engine\) if engine\.claim\(\) == claim => engine\.handle_record/Some(engine) => engine.handle_record/'
mutant reports-of-any-claim $engine/slice/start.rs \
    's/if ticket\.claim != self\.claim \{/if false {/'
mutant settled-before-acked $engine/slice.rs \
    's/ && e\.unacked_writes == 0\)/)/'
mutant limit-refilled-by-a-move $engine/slice.rs \
    's/Some\(memory\) => Limiter::restored\(limit, memory, now\)/Some(_) => Limiter::new(limit)/'
mutant reservation-dropped $engine/limit.rs \
    's/let reserved = memory\.reserved\.iter\(\);/let reserved = memory.reserved.iter().take(0);/'
mutant limit-one-too-many $engine/limit.rs \
    's/self\.window\.free_at\(self\.limit\.attempts\)/self.window.free_at(self.limit.attempts + 1)/'
mutant no-lease $engine/lease.rs \
    's/self\.renewed\.map\(\|at\| at \+ left\)/self.renewed.map(|at| at + left * 1_000)/'
mutant lease-of-one-commit $engine/lease.rs \
    's/while let Some\(\(first, answered\)\)/self.term.renewed = self.term.renewed.max(Some(sent_at));\n        while let Some((first, answered))/'
mutant fence-ignored $engine/fence.rs \
    's/if epoch < self\.highest \{/if false \&\& epoch < self.highest {/'
mutant backlog-opened-unknown $engine/slice/spill.rs \
    's/backlog\.pending\.push_back\(id\);/self.append_to_backlog(id, endpoint.clone());/'
mutant direct-past-the-backlog $engine/slice/spill.rs \
    's/is_some_and\(Backlog::is_ahead\)/is_some_and(|_| false)/'
mutant pass-begins-too-late $engine/backlog.rs \
    's/position\.min\(\*from\)/*from/'
mutant admitted-while-writes-fail $engine/slice/start.rs \
    's/ \|\| !self\.failed_writes\.is_empty\(\)//'
mutant last-comes-first $engine/queue.rs \
    's/self\.of\(class\)\.push_back\(entry\)/self.of(class).push_front(entry)/'
mutant early-retry $engine/schedule.rs \
    's/let due = now \+ with_jitter\(/let due = now + 0.8_f64 * with_jitter(/; s/0\.8_f64 \* with_jitter\((.*?), draw\)/with_jitter($1, draw).mul_f64(0.8)/'
mutant asks-unheard $engine/gate.rs \
    's/\(now < until\)\.then_some\(until\)/(now < until \&\& until < now).then_some(until)/'
mutant asks-use-up-attempts $engine/slice/finish.rs \
    's/entry\.attempts -= 1;//'

mutant followers-go-beside-their-head $engine/order.rs \
    's/of\.busy = true;/of.busy = false;/'
mutant block-forgotten $engine/slice/ordered.rs \
    's/e\.on_exhausted == OnExhausted::Block\)/false \&\& e.on_exhausted == OnExhausted::Block)/'
mutant unwritten-ends-passed-by $engine/order.rs \
    's/!self\.busy && self\.ending == 0 && !self/!self.busy \&\& !self/'

exit $survived
