#!/usr/bin/env bash
# What the simulator is worth: each fault below is put into a copy of the tree, and must be found.
#
#   tests/sim/mutants.sh [NAME...]     prints what found each; fails when nothing finds one
#
# The simulator judges first, by seeds; what it does not find the tests of the engine must. A mutant
# is one substitution that must change its file. The first, `none`, is the tree as it is: both must
# find nothing in it. Of all together the simulator itself must find ten.
# SEEDS: seeds per mutant, 1000 by default. Not part of CI: it builds the engine once per mutant.
# shellcheck disable=SC2016 # the dollars are perl's
set -euo pipefail

root=$(git -C "$(dirname "$0")" rev-parse --show-toplevel)
seeds=${SEEDS:-1000}
target=${CARGO_TARGET_DIR:-$root/target}/mutants
copy=$target/tree
wanted=("$@")
engine=crates/engine/src
in_simulator_min=10
in_simulator=0
in_tests=0
failed=0

# Files as new as they are here, or what was built of a mutant would pass for them.
mkdir -p "$copy"
(cd "$root" && git ls-files -z | xargs -0 tar cf -) | tar xmf - -C "$copy"

in_copy() {
    (cd "$copy" && CARGO_TARGET_DIR=$target "$@")
}

# The first seed that fails. Most mutants fail soon: few seeds first, then more.
simulate() {
    local first=0 step=16 last log=$target/seeds.log
    while [ "$first" -lt "$seeds" ]; do
        last=$((first + step < seeds ? first + step : seeds))
        if ! "$target/debug/sim" --seeds "$first..$last" > "$log" 2>&1; then
            grep -m 1 FAILED "$log" || echo "no verdict: see $log"
            return
        fi
        first=$last
        step=$((2 * step))
    done
}

# The first test of the engine that fails.
test_engine() {
    local log=$target/tests.log
    if in_copy timeout 900 cargo test --offline -p postrider-engine > "$log" 2>&1; then
        return
    fi
    sed -n 's/^test \(.*\) \.\.\. FAILED$/engine test \1/p' "$log" | grep -m 1 . ||
        echo "no verdict: see $log"
}

judge() {
    local name=$1 found
    if ! in_copy cargo build --quiet --offline -p sim 2> "$target/$name.log"; then
        echo "no verdict: see $target/$name.log"
        return
    fi
    found=$(simulate)
    printf '%s' "${found:-$(test_engine)}"
}

mutant() {
    local name=$1 file=$2 change=$3 found
    if [ ${#wanted[@]} -gt 0 ] && [[ ! " ${wanted[*]} " == *" $name "* ]]; then
        return
    fi
    cp "$root/$file" "$copy/$file"
    perl -0pi -e "$change" "$copy/$file"
    if cmp -s "$root/$file" "$copy/$file"; then
        found="no verdict: does not apply to $file"
    else
        found=$(judge "$name")
    fi
    cp "$root/$file" "$copy/$file"
    printf '%-32s %s\n' "$name" "${found:-found by nothing}"
    case $name/$found in
        none/?* | */'no verdict'*) failed=1 ;;
        none/) ;;
        */seed*) in_simulator=$((in_simulator + 1)) ;;
        */engine*) in_tests=$((in_tests + 1)) ;;
        *) failed=1 ;;
    esac
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
mutant settled-before-acked $engine/slice/settle.rs \
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
mutant backlog-opened-unknown $engine/backlog.rs \
    's/opened: false,/opened: true,/'
mutant backlog-opened-behind-a-fence $engine/slice/save.rs \
    's/if is_overtaken \|\| saving\.epoch != epoch/if false/'
mutant copies-of-a-key-side-by-side $engine/backlog.rs \
    's/Some\(key\) => busy\.contains\(&key\) \|\| busy\.contains\(&ALL\),/Some(_) => busy.contains(\&ALL),/'
mutant read-where-nothing-fits $engine/backlog.rs \
    's/ && self\.offsets\.incomplete\(\) >= HOLES_MAX\n    \}/ \&\& self.offsets.incomplete() > HOLES_MAX\n    }/'
mutant direct-past-the-backlog $engine/slice/spill.rs \
    's/is_some_and\(Backlog::is_ahead\)/is_some_and(|_| false)/'
mutant pass-begins-too-late $engine/backlog.rs \
    's/self\.behind\.first\(\) else/self.behind.last() else/'
mutant admitted-while-writes-fail $engine/slice/start.rs \
    's/ \|\| !self\.failed_writes\.is_empty\(\)//'
mutant last-comes-first $engine/queue.rs \
    's/self\.of\(class\)\.push_back\(entry\)/self.of(class).push_front(entry)/'
mutant early-retry $engine/schedule.rs \
    's/let due = now \+ (with_jitter\(.*?, draw\))/let due = now + $1.mul_f64(0.8)/'
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

mutant slice-of-any-size $engine/slice.rs \
    's/let fits = .*?;/let fits = held < usize::MAX;/'
mutant rung-read-to-its-end $engine/slice.rs \
    's/state\.has_room_ahead\(record\.bytes\),/true,/'
mutant shortest-waits-go-round $engine/slice/room.rs \
    's/\|a, b\| b\.cmp\(a\)/|a, b| a.cmp(b)/'
mutant lane-of-any-length $engine/offsets.rs \
    's/self\.incomplete\.len\(\) < HOLES_MAX && offset/offset/'
mutant lane-of-any-span $engine/offsets.rs \
    's/ && offset - first < SPAN_MAX\)/ \&\& offset >= first)/'
mutant waits-in-any-room $engine/slice/room.rs \
    's/self\.held_bytes <= HELD_BYTES_MAX \/ 2 && half_free\(\)/half_free()/'
mutant queues-keep-their-room $engine/slice/room.rs \
    's/self\.is_in_the_way\(self\.entries\[id\]\.lane\)/false/'
mutant backlogs-of-any-size $engine/backlog.rs \
    's/return free > 0 && free_bytes > 0;/return true;/'

printf '%d found by the simulator, %d by tests of the engine\n' "$in_simulator" "$in_tests"
if [ ${#wanted[@]} -eq 0 ] && [ "$in_simulator" -lt "$in_simulator_min" ]; then
    printf 'at least %d must be found by the simulator\n' "$in_simulator_min"
    failed=1
fi
exit "$failed"
