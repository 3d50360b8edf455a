#!/usr/bin/env bash
# Shows that each atomic ordering, fence and re-check of the protocols is needed: weakens one after
# another in a copy of the crate, and runs the loom model that must then fail. The second list has
# the edits that no model notices, with the reasons. Their models must pass. Run from anywhere.
#
#   scripts/weaken-orderings.sh            all edits, in about half an hour
#   scripts/weaken-orderings.sh reply      edits with "reply" in their name
#   scripts/weaken-orderings.sh --check    only applies each edit, without compiling or running
#
# Fails if an edit does not apply or compile, or if a model does not fail or pass as listed.
set -euo pipefail
cd "$(dirname "$0")/.."

check=
if [[ ${1:-} == --check ]]; then
    check=1
    shift
fi
only=${1:-}
copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
mkdir "$copy/crate"
cp -r Cargo.toml Cargo.lock src docs "$copy/crate/"
# Removes other targets and their dependencies from the manifest, because no model needs them.
sed -i -e '/^\[\[/,/^$/d' -e '/^\[dev-dependencies\]/,/^$/d' "$copy/crate/Cargo.toml"
cp -r "$copy/crate/src" "$copy/original"

export CARGO_TARGET_DIR=${WEAKEN_TARGET_DIR:-$copy/target} RUSTFLAGS="--cfg heist_loom" CARGO_TERM_COLOR=never
export LOOM_MAX_PREEMPTIONS=3 RUST_BACKTRACE=0
export CARGO_INCREMENTAL=1 CARGO_PROFILE_RELEASE_DEBUG=0 CARGO_PROFILE_RELEASE_OPT_LEVEL=2

table=()
bad=0
tried=0
edited=()

# edit FILE OLD NEW: replaces the only match of OLD. White space in OLD matches any white space.
edit() {
    OLD=$2 NEW=$3 perl -0777 -i -pe '
        my $old = join "\\s+", map { quotemeta } split " ", $ENV{OLD};
        my $count = () = /$old/g;
        die "$count places instead of 1 in $ARGV: $ENV{OLD}\n" if $count != 1;
        s/$old/$ENV{NEW}/;
    ' "$copy/crate/src/$1"
}

# run MODELS: prints "fails", "passes", "hangs", "names no model" or "does not compile".
run() {
    cd "$copy/crate"
    if ! cargo test --release --lib --no-run -q > "$copy/log" 2>&1; then
        echo "does not compile"
        return
    fi
    local status=0
    timeout 300 cargo test --release --lib -q "models::$1" > "$copy/log" 2>&1 || status=$?
    if ((status == 0)) && grep -q " 0 passed" "$copy/log"; then
        echo "names no model"
    elif ((status == 124)); then
        echo "hangs"
    elif ((status == 0)); then
        echo "passes"
    else
        echo "fails"
    fi
}

# try EXPECTED NAME MODELS {FILE OLD NEW}...: applies the edits, runs the models, compares.
try() {
    local expected=$1 name=$2 models=$3 found start=$SECONDS
    shift 3
    [[ $name == *"$only"* ]] || return 0
    tried=$((tried + 1))
    local file
    for file in "${edited[@]}"; do cp "$copy/original/$file" "$copy/crate/src/$file"; done # new times, so that cargo sees the change
    edited=()
    while (($# > 0)); do
        edited+=("$1")
        if ! edit "$1" "$2" "$3"; then
            bad=$((bad + 1))
            table+=("BAD|$name|$models|the edit does not apply")
            printf 'BAD  %s: the edit does not apply\n' "$name"
            return 0
        fi
        shift 3
    done
    if [[ $check ]]; then return 0; fi
    found=$(run "$models")
    local verdict=ok
    if [[ $found != "$expected" ]]; then
        verdict=BAD
        bad=$((bad + 1))
        tail -n 20 "$copy/log"
    fi
    table+=("$verdict|$name|$models|$found")
    printf '%-4s %-62s %-12s %s (%s s)\n' "$verdict" "$name" "$models" "$found" $((SECONDS - start))
}

needed() { try fails "$@"; }
spare() { try passes "$@"; }

inbox=mailbox/inbox.rs segment=mailbox/segment.rs state=mailbox/state/mod.rs reply=mailbox/reply_slot.rs
idle=sched/idle/mod.rs roles=sched/idle/roles.rs alarm=sched/alarm.rs gate=sched/gate.rs
apart=sched/dedicated_turns.rs quiet=sched/quiescence.rs lifo=sched/lifo.rs returns=memory/returns.rs
vacant=sched/idle/vacant.rs spares=sched/spares.rs errand=sched/chores.rs

# weaken_step EXPECTED ORDERING METHOD BEGINNING MODELS: gives one step of the state word ORDERING.
weaken_step() {
    "$1" "state: $3 $2" "$5" \
        $state 'fn transition<R>(&self, step: impl Fn(Snapshot) -> Result<(u64, R), R>) -> R {' \
        'fn transition<R>(&self, step: impl Fn(Snapshot) -> Result<(u64, R), R>) -> R {
            self.transition_with(AcqRel, step)
        }
        fn transition_with<R>(
            &self,
            order: crate::sync::Ordering,
            step: impl Fn(Snapshot) -> Result<(u64, R), R>,
        ) -> R {' \
        $state 'compare_exchange_weak(current, next, AcqRel, Relaxed)' \
        'compare_exchange_weak(current, next, order, Relaxed)' \
        $state "$4 self.transition(" "$4 self.transition_with($2, "
}

if [[ ! $check ]]; then echo "unchanged: $(run "")"; fi

# --- the inbox
needed "inbox: push without Release" mailbox \
    $inbox 'compare_exchange_weak(top, link, Release, Relaxed)' 'compare_exchange_weak(top, link, Relaxed, Relaxed)'
needed "inbox: pop without Acquire" mailbox $inbox 'swap(ptr::null_mut(), Acquire)' 'swap(ptr::null_mut(), Relaxed)'
needed "inbox: newest first" mailbox $inbox 'rest.set(reverse_stack(' 'rest.set(std::convert::identity('

# --- segments
needed "segments: push without Release" segments \
    $inbox 'compare_exchange_weak(top, link, Release, Relaxed)' 'compare_exchange_weak(top, link, Relaxed, Relaxed)'
needed "segments: claim without Acquire" segments \
    $inbox 'claim_one_more(top), Acquire, Relaxed)' 'claim_one_more(top), Relaxed, Relaxed)'
needed "segments: fill without Release" segments \
    $segment 'mark.store(FILLED, Release)' 'mark.store(FILLED, Relaxed)'
needed "segments: give a slot up without Release" segments \
    $segment 'mark.store(VOID, Release)' 'mark.store(VOID, Relaxed)'
needed "segments: look at a mark without Acquire" segments \
    $segment 'this.marks[slot].load(Acquire)' 'this.marks[slot].load(Relaxed)'
needed "segments: a slot is marked before it is filled" segments \
    $segment 'if !ptr::eq(its, kind) && its.handled_as != kind.handled_as {' \
    'mark.store(FILLED, Release); if !ptr::eq(its, kind) && its.handled_as != kind.handled_as {'
needed "segments: freed with a slot that is not passed" segments \
    $segment 'if slot == claimed_slots(link) {' 'if slot + 1 == claimed_slots(link) && slot > self::SLOTS - FEW {'
needed "segments: left with all its slots passed" segments \
    $segment 'if is_segment(list) && usize::from(' 'if false && usize::from('
needed "segments: a claim that takes what is full" segments \
    mailbox/link.rs 'is_segment(link) && link.addr() % ALIGN != ALIGN - 1' 'is_segment(link)'

# --- returned blocks
needed "returns: push without Release" returns \
    $returns 'compare_exchange_weak(top, first, Release, Relaxed)' 'compare_exchange_weak(top, first, Relaxed, Relaxed)'
needed "returns: take without Acquire" returns $returns 'swap(ptr::null_mut(), Acquire)' 'swap(ptr::null_mut(), Relaxed)'

# --- the state word: orderings
# The model `mailbox` gives places back with a step of its own before `end_turn`, which releases in its stead.
needed "state: steps without Release" room \
    $state 'compare_exchange_weak(current, next, AcqRel, Relaxed)' 'compare_exchange_weak(current, next, Acquire, Relaxed)'
needed "state: steps without Acquire" references \
    $state 'compare_exchange_weak(current, next, AcqRel, Relaxed)' 'compare_exchange_weak(current, next, Release, Relaxed)'
weaken_step needed Acquire end_turn 'fn end_turn(&self, handled: u32, served: bool) -> EndTurn { let taken = u64::from(handled) << LEN_SHIFT;' room
weaken_step needed Release end_turn 'fn end_turn(&self, handled: u32, served: bool) -> EndTurn { let taken = u64::from(handled) << LEN_SHIFT;' references
needed "state: end_idle without Release" mailbox \
    $state 'rest & !(SCHEDULED | OUTSIDE), Release, Relaxed)' 'rest & !(SCHEDULED | OUTSIDE), Relaxed, Relaxed)'
weaken_step needed Acquire release_ref 'fn release_ref(&self) -> Release {' references
weaken_step needed Release release_ref 'fn release_ref(&self) -> Release {' references
weaken_step needed Acquire set_dead 'fn set_dead(&self, secured: bool) -> Option<Dead> {' references
weaken_step needed Release set_dead 'fn set_dead(&self, secured: bool) -> Option<Dead> {' references
needed "state: wait_for_stop without Acquire" references \
    $state 'fetch_or(STOP_WAIT, AcqRel)' 'fetch_or(STOP_WAIT, Release)'
needed "state: a turn that acquires nothing" mailbox \
    $state 'Snapshot(self.0.load(Acquire))' 'Snapshot(self.0.load(Relaxed))' \
    $state 'compare_exchange_weak(current, next, AcqRel, Relaxed)' 'compare_exchange_weak(current, next, Release, Relaxed)'

# --- the state word: decisions
needed "state: the end of a turn does not look again" mailbox $state '} else if !empty || rest.has_waiters() {' '} else if rest.has_waiters() {'
needed "state: who is wanted goes idle" shared \
    $state '} else if rest.has(CHECK_QUEUE) && !rest.is_closed() && (empty || !served) {' '} else if false {'
needed "state: request_queue_check does not say who is idle" shared \
    $state '!Snapshot(self.0.fetch_or(CHECK_QUEUE, AcqRel)).has(SCHEDULED)' \
    '{ self.0.fetch_or(CHECK_QUEUE, AcqRel); false }'
needed "state: a place at who is scheduled" shared \
    $state 'if now.has(SCHEDULED) || now.is_closed() { Err(false)' 'if now.is_closed() { Err(false)'
needed "state: a reserve schedules what is scheduled" mailbox \
    $state '((now.0 + LEN_ONE) | SCHEDULED | mark, Reserve::Accepted { schedule })' \
    '((now.0 + LEN_ONE) | SCHEDULED | mark, Reserve::Accepted { schedule: true })'
needed "state: a close schedules what is scheduled" mailbox \
    $state 'Ok((now.0 | flags | SCHEDULED, !now.has(SCHEDULED)))' 'Ok((now.0 | flags | SCHEDULED, true))'
needed "state: a closed mailbox accepts" mailbox \
    $state 'pub(crate) fn reserve_place(&self, capacity: u32, outside: bool) -> Reserve { self.transition(|now| { if now.is_closed() {' \
    'pub(crate) fn reserve_place(&self, capacity: u32, outside: bool) -> Reserve { self.transition(|now| { if now.is_dead() {'
needed "state: the end with messages waiting" mailbox \
    $state 'rest.is_killed() || (rest.is_closed() && empty)' 'rest.is_killed() || rest.is_closed()'
needed "state: the last reference schedules what is scheduled" references \
    $state '} else if now.has(SCHEDULED) || now.has(DETACHED) {' '} else if now.has(DETACHED) {'
needed "state: the last reference schedules nothing" references \
    $state '(rest | SCHEDULED, Release::Schedule)' '(rest, Release::Nothing)'
needed "state: an upgrade of what is closed" references \
    $state 'pub(crate) fn try_upgrade(&self) -> bool { self.transition(|now| { if now.is_closed() {' \
    'pub(crate) fn try_upgrade(&self) -> bool { self.transition(|now| { if now.is_dead() {'
needed "state: unreferenced, but not closed" references \
    $state '(rest.0 | CLOSED, EndTurn::Unreferenced)' '(rest.0, EndTurn::Unreferenced)'
needed "state: a detached actor is collected at a turn's end" references \
    $state 'rest.strong_count() == 0 && !rest.has(DETACHED)' 'rest.strong_count() == 0'
needed "state: collected while referenced" references \
    $state 'rest.strong_count() == 0 && !rest.has(DETACHED)' 'rest.strong_count() <= 1 && !rest.has(DETACHED)'
needed "state: waiters told without a count of one's own" references \
    $state 'if now.has(STOP_WAIT) && !secured {' 'if false {'
needed "state: waiters not told" references \
    $state 'Dead { tell_waiters: now.has(STOP_WAIT),' 'Dead { tell_waiters: false,'

# --- the state word: the end of a state
needed "retire: the usual way out is open" retire \
    $state 'rest & (STRONG_ONE - 1) & !OUTSIDE == SCHEDULED' 'rest & (STRONG_ONE - 1) & !(OUTSIDE | RETIRE) == SCHEDULED'
needed "retire: the end of a turn does not see the stop" retire $state '} else if rest.has(RETIRE) {' '} else if false {'
needed "retire: a stop makes no turn" retire \
    $state 'Ok((now.0 | RETIRE | SCHEDULED, Some(!now.has(SCHEDULED))))' 'Ok((now.0 | RETIRE | SCHEDULED, Some(false)))'
needed "retire: a stop schedules what is scheduled" retire \
    $state 'Ok((now.0 | RETIRE | SCHEDULED, Some(!now.has(SCHEDULED))))' 'Ok((now.0 | RETIRE | SCHEDULED, Some(true)))'
needed "retire: a stop of what has ended" retire $state 'if now.is_closed() { Err(None) }' 'if false { Err(None) }'
weaken_step needed Relaxed request_retire 'fn request_retire(&self) -> Option<bool> {' retire
needed "retire: a kill waits for the next state" retire $state 'if rest.is_killed() || (rest.is_closed() && empty)' 'if rest.is_closed() && empty'
needed "retire: the hint is cleared after the step" retire models/retire.rs \
    'self.hint.store(false, Relaxed); match self.state.end_turn(total, false) {' \
    'let end = self.state.end_turn(total, false); self.hint.store(false, Relaxed); match end {'

# --- waiting for room
needed "room: a turn ends without a look at the list" room \
    $state 'rest.has_waiters() && !rest.is_closed() && !served' 'false && !served'
needed "room: a turn ends idle while notices are to come" room $state '!empty || rest.has_waiters()' '!empty'
needed "room: the flags stay" room $state 'self.0.fetch_and(!(ROOM_WAIT | NOTICES), AcqRel);' ''
needed "room: the flag of notices stays" room \
    $state 'self.0.fetch_and(!(ROOM_WAIT | NOTICES), AcqRel);' 'self.0.fetch_and(!ROOM_WAIT, AcqRel);'
needed "room: no flag for notices to come" room $state '(now.0 | NOTICES) & !ROOM_WAIT' 'now.0 & !ROOM_WAIT'
needed "room: plain sends barge" room $state 'now.len() >= capacity || now.has_room_wait()' 'now.len() >= capacity'
needed "room: waits in a closed mailbox" room \
    $state 'if now.is_closed() { Err(RoomWait::Closed)' 'if now.is_dead() { Err(RoomWait::Closed)'
needed "room: waits without asking for room" room \
    $state 'at_most.is_some_and(|at_most| now.len() <= at_most)' 'at_most.is_some_and(|_| false)'

# --- prepaid messages
needed "prepaid: places are given back before the count" prepaid \
    models/prepaid.rs 'if prepaid > 0 {
            let _list = self.room.lock();
            self.prepaid.subtract_handled(prepaid);
        }
        let _ = self.state.give_places_back(in_hand.len() as u32);
        self.messages.lock().unwrap().drain(..in_hand.len());' \
    'let _ = self.state.give_places_back(in_hand.len() as u32);
        self.messages.lock().unwrap().drain(..in_hand.len());
        if prepaid > 0 {
            let _list = self.room.lock();
            self.prepaid.subtract_handled(prepaid);
        }'
needed "prepaid: a sender reads the count without the lock" prepaid \
    models/prepaid.rs 'let _list = self.room.lock(); reserved =' 'reserved ='
needed "prepaid: a message counts before it has its place" prepaid \
    models/prepaid.rs 'assert!(matches!(self.state.reserve_exempt(), Reserve::Accepted { .. }));' \
    'self.prepaid.add_one(); assert!(matches!(self.state.reserve_exempt(), Reserve::Accepted { .. }));' \
    models/prepaid.rs 'self.messages.lock().unwrap().push(Kind::Prepaid); self.prepaid.add_one();' \
    'self.messages.lock().unwrap().push(Kind::Prepaid);'
needed "prepaid: the handled still count" prepaid cell/prepaid.rs 'self.0.fetch_sub(messages, Relaxed);' 'let _ = messages;'
needed "prepaid: a full mailbox looks at no count" prepaid \
    models/prepaid.rs 'reserved == Reserve::Full && self.prepaid.has_any()' 'false'

# --- idle
needed "idle: notify without its fence" idle \
    $idle 'fn notify_any(&self) -> bool { fence(SeqCst);' 'fn notify_any(&self) -> bool {'
needed "idle: park without its fence" idle \
    $idle 'self.add_parked(me, searching, may_watch); fence(SeqCst);' 'self.add_parked(me, searching, may_watch);'
needed "idle: park without its rescan" idle $idle 'if (self.is_stopping() || has_work() ||' 'if (self.is_stopping() ||'
needed "idle: park without a look at the stop" idle $idle 'if (self.is_stopping() || has_work() ||' 'if (has_work() ||'
needed "idle: notify_worker without its fence" idle \
    $idle 'fn notify_worker(&self, worker: usize) { fence(SeqCst);' 'fn notify_worker(&self, worker: usize) {'
needed "idle: not marked as parked" idle \
    $idle 'self.park_spots[me].parked.store(true, Relaxed);' ''
needed "idle: end_search without its fence" idle \
    $idle 'fetch_sub(SEARCHING_ONE, SeqCst)); fence(SeqCst);' 'fetch_sub(SEARCHING_ONE, SeqCst));'
needed "idle: the last searcher does not look again" idle $idle 'before.searching() == 1' 'before.searching() == 99'
needed "idle: stop wakes nobody" idle $idle 'spot.parker.unpark(Token::Run);' 'let _ = spot;'
needed "idle: nobody is appointed" idle $roles 'now.parked() > 0 && !now.watched()' 'now.parked() > 99 && !now.watched()'
needed "idle: who gets up for work leaves nobody on watch" idle \
    models/idle.rs 'if self.sentinel { self.idle.ensure_watched(); } found' 'found'
needed "idle: a woken sentinel is still on watch" idle $idle 'list.sentinel = None; step -= SENTINEL;' 'step -= 0;'
needed "idle: resigns while somebody is awake" idle \
    $roles 'list.parked.len() as u64 == self.all_workers() && list.sentinel == Some(me)' 'list.sentinel == Some(me)'
needed "idle: appointed after the lock" idle \
    $roles 'self.park_spots[worker].parker.unpark(Token::Look);' '' \
    $roles 'self.appoint_one_of(&mut self.list.lock());' \
    'let appointed = { let mut list = self.list.lock(); let before = list.sentinel; self.appoint_one_of(&mut list);
        list.sentinel.filter(|_| before.is_none()) };
     if let Some(worker) = appointed { self.park_spots[worker].parker.unpark(Token::Look); }'
needed "idle: woken, but still on the list" idle $idle 'list.parked.remove(place); list.see_to(worker); if relieve' 'if relieve'
needed "parker: the token is not looked at" idle \
    sync/parker.rs 'if let Some(taken) = token.take() { return Some(taken); }' \
    'if until.is_none() { self.arrived.wait(&mut token); } if let Some(taken) = token.take() { return Some(taken); }'
needed "parker: an unpark wakes nobody" idle sync/parker.rs 'self.arrived.notify_one();' ''

# --- vacant slots
needed "spares: left without its fence" spares \
    $vacant 'drop(list); fence(SeqCst); chaos();' 'drop(list); chaos();'
needed "spares: left without a rescan" spares $vacant 'if self.is_stopping() || has_work() {' 'if self.is_stopping() {'
needed "spares: who leaves does not read the alarm" spares $vacant 'self.ensure_timer_waiter(); None' 'None'
needed "spares: not marked as vacant" spares $vacant 'list.vacant.push((me, spare));' 'drop(spare);'
needed "spares: the own spare, whichever comes back" spares $vacant \
    'list.vacant.push((me, spare));' 'let own = Arc::clone(&spare); list.vacant.push((me, own));' \
    $vacant 'if let Some(spare) = self.take_back(me) {' 'if self.take_back(me).is_some() {'
needed "spares: who finds work and no line wakes nobody" spares $vacant 'self.notify_worker(me);' ''
needed "spares: taken back, whoever has it" spares \
    $vacant 'let spare = list.occupy_slot(me)?;' 'let spare = list.occupy_slot(me).unwrap_or_else(Spare::new);'
needed "spares: a waking calls nobody" spares \
    $idle 'list.parked.remove(place); list.see_to(worker); if relieve' 'list.parked.remove(place); if relieve'
needed "spares: no timer waiter is called" spares $roles 'list.see_to(timer_waiter);' ''
needed "spares: no successor is called" spares $roles 'list.see_to(next);' ''
needed "spares: a call that was heard is recalled" spares $spares 'Assignment::Run(slot), Assignment::Idle)' 'Assignment::Run(slot), Assignment::Idle) || slot < 99'
needed "spares: a recalled one hears nothing" spares sync/parker.rs '*token = Some(other);' '{ *token = None; drop(other); }'
needed "spares: a slot that is left appoints nobody" spares::duties::a_slot_that_is_left_gets \
    $vacant 'if may_watch && (list.parked.len() as u64) < self.all_workers() {' 'if may_watch && list.parked.is_empty() {'
needed "spares: turns elsewhere are not looked at" spares $spares 'self.0.load(Acquire) > 0' 'self.0.load(Acquire) > 99'
needed "spares: the last turn elsewhere tells nobody" spares models/spares/mod.rs 'if self.elsewhere.count_back() {' 'if self.elsewhere.count_back() && false {'
needed "spares: the end of a turn elsewhere without Release" spares \
    $spares 'self.0.fetch_sub(1, AcqRel) == 1' 'self.0.fetch_sub(1, Acquire) == 1'
needed "spares: the look at turns elsewhere Relaxed" spares $spares 'self.0.load(Acquire) > 0' 'self.0.load(Relaxed) > 0'

# --- the alarm
needed "alarm: lowered without its fence" alarm \
    $roles 'fn alarm_lowered(&self) { fence(SeqCst);' 'fn alarm_lowered(&self) {'
needed "alarm: park without its fence" alarm \
    $idle 'self.add_parked(me, searching, may_watch); fence(SeqCst);' 'self.add_parked(me, searching, may_watch);'
needed "alarm: nobody is told" alarm $roles 'self.park_spots[timer_waiter].parker.unpark(Token::Look);' 'let _ = timer waiter;'
needed "alarm: a timer waiter that leaves has no successor" alarm \
    $roles 'list.timer_waiter = list.last_parked().or_else(|| list.parked.last().copied().filter(|_| set));' 'list.timer_waiter = None;'
needed "alarm: a successor is not told" alarm $roles 'self.park_spots[next].parker.unpark(Token::Look);' 'let _ = next;'
needed "alarm: a timer waiter that leaves is still the timer waiter" alarm \
    $idle 'self.hand_over(&mut list, worker); drop(list);' 'drop(list);'
needed "alarm: a timer waiter that gets up for the alarm is still the timer waiter" alarm \
    $idle 'if left && list.timer_waiter == Some(me) {' 'if false {'
needed "alarm: nobody waits for what is left after firing" alarm $roles 'self.tell_timer_waiter(false);' ''
needed "alarm: who parks is never the timer waiter" alarm \
    $idle '*list.timer_waiter.get_or_insert(me) == me' 'list.timer_waiter == Some(me)'
needed "alarm: a timer waiter's look does not see its duty" alarm \
    $roles '(list.sentinel == Some(me), list.timer_waiter == Some(me))' '(list.sentinel == Some(me), false)'

# --- quiescence
needed "quiet: want without its fence" quiet $quiet 'or the caller sees all at rest. fence(SeqCst); done' 'or the caller sees all at rest.
        done'
needed "quiet: nobody is told" quiet $idle '|| (last && all_parked())' '|| (last && false && all_parked())'
needed "quiet: the look comes before the tickets' lock" quiet \
    $quiet 'let mut waiting = self.waiting.lock(); if waiting.tickets.is_empty() { return false; } match look() {' \
    'let seen = look(); let mut waiting = self.waiting.lock(); match seen {'
needed "quiet: nobody looks again when somebody was entering" quiet \
    $quiet 'Quiescence::Entering => tell(Vec::new())' 'Quiescence::Entering => return false'
needed "quiet: who was told looks again" quiet models/mod.rs \
    'if want && quiet.register_wait(&mut ticket, &waker.to_waker()) {' 'if want && quiet.register_wait(&mut ticket, &waker.to_waker()) && false {'
needed "gate: nobody is ever inside" quiet $gate 'stripe.load(Acquire) & INSIDE != 0' 'stripe.load(Acquire) & INSIDE > 99'
needed "gate: leaves before its last step" quiet \
    $gate 'stripe.fetch_add(1, SeqCst);' 'stripe.fetch_add(0, SeqCst);' \
    $gate '.wrapping_sub(1), SeqCst)' ', SeqCst)'

# --- errands at the end of the crew
needed "errands: a visit to the timers is not counted" errands::a_chore_of_a_timer \
    $errand 'self.add_chores(1); Visit(self)' 'Visit(self)' $errand 'self.0.begin_chore();' ''
needed "errands: a chore begins before the rest is back" errands models/errands.rs \
    '*self.queue.lock() += chores - 1; self.owed.begin_chore();' \
    '(0..chores).for_each(|_| self.owed.begin_chore()); self.owed.add_chores(chores - 1); *self.queue.lock() += chores - 1;'
needed "errands: a worker ends while chores are owed" errands models/errands.rs \
    '!to_be_cancelled && !self.owed.any_left()' '!to_be_cancelled'

# --- dedicated threads
needed "apart: no epoch" apart::a_sender $apart 'fetch_add(EPOCH_ONE + 1, SeqCst)' 'fetch_add(1, SeqCst)'
needed "apart: nobody is told" apart models/apart.rs 'if self.apart.count_ended() {' 'if self.apart.count_ended() && false {'
needed "apart: the token before the count" apart models/apart.rs 'self.apart.count_begun(); self.home.unpark(());' \
    'self.home.unpark(()); self.apart.count_begun();'
needed "apart: over before what it pushed" apart::what models/apart.rs \
    'let mut waiting = self.scheduled.load(Acquire);' \
    'let mut waiting = self.scheduled.load(Acquire); let _ = self.apart.count_ended(); self.apart.count_begun();'

# --- the reply slot
needed "reply: EMPTY to READY without Release" reply \
    $reply 'compare_exchange(EMPTY, READY, AcqRel, Acquire)' 'compare_exchange(EMPTY, READY, Acquire, Acquire)'
needed "reply: WAITING to LOCKED without Acquire" reply \
    $reply 'compare_exchange(WAITING, LOCKED, AcqRel, Acquire)' 'compare_exchange(WAITING, LOCKED, Release, Acquire)'
needed "reply: LOCKED to READY without Release" reply \
    $reply 'compare_exchange(LOCKED, READY, AcqRel, Acquire)' 'compare_exchange(LOCKED, READY, Acquire, Acquire)'
needed "reply: LOCKED to READY met GONE without Acquire" reply \
    $reply 'compare_exchange(LOCKED, READY, AcqRel, Acquire)' 'compare_exchange(LOCKED, READY, AcqRel, Relaxed)'
needed "reply: met GONE without Acquire" reply $reply 'fetch_or(0, AcqRel)' 'fetch_or(0, Relaxed)'
needed "reply: a poll's look without Acquire" reply \
    $reply 'this.state.load(Acquire); if state == WAITING' 'this.state.load(Relaxed); if state == WAITING'
needed "reply: a poll took the waker back, met READY without Acquire" reply \
    $reply 'if state == WAITING { match this.state.compare_exchange(WAITING, EMPTY, AcqRel, Acquire)' \
    'if state == WAITING { match this.state.compare_exchange(WAITING, EMPTY, AcqRel, Relaxed)'
needed "reply: EMPTY to WAITING without Release" reply \
    $reply 'compare_exchange(EMPTY, WAITING, AcqRel, Acquire)' 'compare_exchange(EMPTY, WAITING, Acquire, Acquire)'
needed "reply: EMPTY to WAITING met READY without Acquire" reply \
    $reply 'compare_exchange(EMPTY, WAITING, AcqRel, Acquire)' 'compare_exchange(EMPTY, WAITING, AcqRel, Relaxed)'
needed "reply: abandon's look without Acquire" reply \
    $reply 'this.state.load(Acquire); loop' 'this.state.load(Relaxed); loop'
needed "reply: abandon took the waker back, met READY without Acquire" reply \
    $reply 'WAITING => match this.state.compare_exchange(WAITING, EMPTY, AcqRel, Acquire)' \
    'WAITING => match this.state.compare_exchange(WAITING, EMPTY, AcqRel, Relaxed)'
needed "reply: EMPTY to GONE without Release" reply \
    $reply 'compare_exchange(EMPTY, GONE, AcqRel, Acquire)' 'compare_exchange(EMPTY, GONE, Acquire, Acquire)'
needed "reply: EMPTY to GONE met READY without Acquire" reply \
    $reply 'compare_exchange(EMPTY, GONE, AcqRel, Acquire)' 'compare_exchange(EMPTY, GONE, AcqRel, Relaxed)'
needed "reply: LOCKED to GONE without Release" reply \
    $reply 'compare_exchange(LOCKED, GONE, AcqRel, Acquire)' 'compare_exchange(LOCKED, GONE, Acquire, Acquire)'
needed "reply: LOCKED to GONE met READY without Acquire" reply \
    $reply 'compare_exchange(LOCKED, GONE, AcqRel, Acquire)' 'compare_exchange(LOCKED, GONE, AcqRel, Relaxed)'
needed "reply: a poll that meets LOCKED only waits" reply $reply 'user::wake_by_ref(cx.waker()); Poll::Pending' 'Poll::Pending'

# --- the registry, the core, the cleaning of heaps (copies inside the models)
needed "registry: a cell is freed without a reference to the core" registry \
    models/registry.rs 'if !shard.is_empty() { self.references.fetch_add(1, Relaxed); }' ''
needed "registry: cells are freed before they are forgotten" registry::a_walk \
    models/registry.rs 'first = Some(cell); }' 'first = Some(cell); self.free(cell); }'
needed "registry: the core's count without Release" registry \
    models/registry.rs 'fetch_sub(1, Release)' 'fetch_sub(1, Relaxed)'
needed "registry: the core's last count without Acquire" registry models/registry.rs 'fence(Acquire);' ''
needed "returned: two put a heap in order" returns \
    models/returns.rs 'if self.claim.try_take() {' 'if self.claim.try_take() || true {'
needed "returned: what was taken is the holder's secret" returns \
    models/returns.rs '!self.returns.is_empty() || !self.taken.load(Relaxed).is_null()' '!self.returns.is_empty()'

# --- the LIFO slot
needed "lifo: exchange without Release" lifo $lifo 'swap(with, AcqRel)' 'swap(with, Acquire)'
needed "lifo: exchange without Acquire" lifo $lifo 'swap(with, AcqRel)' 'swap(with, Release)'
needed "lifo: filled without Release" lifo $lifo 'self.0.store(task, Release)' 'self.0.store(task, Relaxed)'
needed "lifo: taken in two steps" lifo \
    $lifo 'self.exchange(ptr::null_mut())' \
    'let old = NonNull::new(self.0.load(Acquire)); self.0.swap(ptr::null_mut(), AcqRel); old.map(|old| unsafe { Runnable::from_raw(old) })'

# --- the table of waits

waits=cell/waits/mod.rs stuck=cell/waits/stuck.rs
needed "waits: lines are followed before one's own is written" waits \
    cell/waits/register.rs 'match stuck::cycle_of_refused(&me) {' \
    'let line = self.0.lock().lines.remove(&me.id);
        let found = line.as_ref().and_then(|line| stuck::cycle_of_refused(&line.target.at));
        self.0.lock().lines.extend(line.map(|line| (me.id, line)));
        match found {'
needed "waits: another table is taken for one's own" waits cell/waits/register.rs '&& Arc::ptr_eq(&at.table, self)' ''
needed "waits: a forward is not followed" waits $stuck 'if target.ask != 0' 'if target.ask == 1'
needed "waits: a bell that was rung counts" waits \
    $stuck 'Some(line) if !line.bell.has_rung() =>' 'Some(line) =>'
needed "waits: all lines of a cycle are refused" waits \
    $stuck 'let later = stuck.iter().any(|found| found.line > stuck[0].line);' 'let later = false;'

# --- stronger than the models need, and why
# Every step of the state word is a read-modify-write, so all steps form one release sequence. A
# turn's first load acquires from the last `end_turn` and from each `release_ref`, whatever lies in
# between. Messages and runnables bring their own synchronization. One ordering for all steps is
# simple and costs nothing on x86-64.
weaken_step spare Relaxed reserve_place 'fn reserve_place(&self, capacity: u32, outside: bool) -> Reserve {' mailbox
weaken_step spare Relaxed set_closed 'fn set_closed(&self, kill: bool) -> bool {
    let flags = if kill { CLOSED | KILLED } else { CLOSED };' mailbox
spare "retire: acted on, and not cleared (the turn forgets it once more before it makes a state)" retire \
    $state '(rest.0 & !RETIRE, EndTurn::Retire)' '(rest.0, EndTurn::Retire)'
spare "state: clear_retire Relaxed (loom's stores have the order in which it makes them)" retire \
    $state 'self.0.fetch_and(!RETIRE, AcqRel)' 'self.0.fetch_and(!RETIRE, Relaxed)'
# loom lets a read-modify-write read the latest value, so a sender always finds the counted message.
spare "prepaid: add_one Relaxed" prepaid cell/prepaid.rs 'self.0.fetch_add(1, Release);' 'self.0.fetch_add(1, Relaxed);'
spare "prepaid: read Relaxed" prepaid cell/prepaid.rs 'self.0.load(Acquire)' 'self.0.load(Relaxed)'
# The queue's lock orders these two steps, and only the meaning of the flags matters.
spare "state: request_queue_check Relaxed" shared $state 'fetch_or(CHECK_QUEUE, AcqRel)' 'fetch_or(CHECK_QUEUE, Relaxed)'
spare "state: clear_queue_check Relaxed" shared $state 'fetch_and(!CHECK_QUEUE, AcqRel)' 'fetch_and(!CHECK_QUEUE, Relaxed)'
spare "state: the last reference to a detached actor makes a turn (which finds the flag)" references \
    $state '} else if now.has(SCHEDULED) || now.has(DETACHED) {' '} else if now.has(SCHEDULED) {'
spare "state: detach Relaxed" references $state 'fetch_or(DETACHED, AcqRel)' 'fetch_or(DETACHED, Relaxed)'
weaken_step spare Relaxed try_upgrade 'fn try_upgrade(&self) -> bool {' references
weaken_step spare Relaxed wait_for_room 'fn wait_for_room(&self, at_most: Option<u32>) -> RoomWait {' room
spare "state: clear_room_wait Relaxed" room \
    $state 'fetch_and(!(ROOM_WAIT | NOTICES), AcqRel)' 'fetch_and(!(ROOM_WAIT | NOTICES), Relaxed)'
weaken_step spare Relaxed set_notices_to_come 'fn set_notices_to_come(&self) {' room
spare "state: give_back Relaxed" mailbox $state 'fetch_sub(taken, AcqRel)' 'fetch_sub(taken, Relaxed)'
spare "state: begin_turn Relaxed (the step that scheduled it acquired)" mailbox \
    $state 'Snapshot(self.0.load(Acquire))' 'Snapshot(self.0.load(Relaxed))'
spare "state: wait_for_stop without Release (its list has a lock)" references \
    $state 'fetch_or(STOP_WAIT, AcqRel)' 'fetch_or(STOP_WAIT, Acquire)'

# The steps of the word need no order: adjacent fences provide it, and the list has a lock.
spare "idle: parking's step Relaxed" idle \
    $idle 'self.word.fetch_add(step, SeqCst); (watching, *' 'self.word.fetch_add(step, Relaxed); (watching, *'
spare "idle: leaving's step Relaxed" idle \
    $idle 'self.word.fetch_add(step, SeqCst); true' 'self.word.fetch_add(step, Relaxed); true'
spare "idle: waking's step Relaxed" idle $idle 'self.word.fetch_update(SeqCst, Relaxed, step).is_err()' \
    'self.word.fetch_update(Relaxed, Relaxed, step).is_err()'
spare "idle: the start of a search Relaxed" idle $idle 'self.word.fetch_update(SeqCst, Relaxed, step).is_ok()' \
    'self.word.fetch_update(Relaxed, Relaxed, step).is_ok()'
spare "idle: resigning's step Relaxed" idle $roles 'fetch_sub(SENTINEL, SeqCst)' 'fetch_sub(SENTINEL, Relaxed)'
spare "idle: appointing's step Relaxed" idle $roles 'fetch_add(SENTINEL, SeqCst)' 'fetch_add(SENTINEL, Relaxed)'
# A worker that the stop does not find on the list enters it later, under the lock of the stop.
spare "idle: stop without its fence" idle \
    $idle 'self.stopping.store(true, SeqCst); fence(SeqCst);' 'self.stopping.store(true, Release);'
spare "idle: the stop's store Relaxed (a fence follows)" idle \
    $idle 'self.stopping.store(true, SeqCst)' 'self.stopping.store(true, Relaxed)'
spare "idle: the look at the stop Relaxed (nothing is published by it)" idle \
    $idle 'self.stopping.load(Acquire)' 'self.stopping.load(Relaxed)'
spare "idle: a notifier does not check again (one wake too many)" idle \
    $idle '(Crew(word).searching() == 0) .then(' '(Crew(word).searching() < 99) .then('
spare "idle: no epoch" quiet \
    $idle '- relieve).wrapping_add(EPOCH_ONE)' '- relieve)' \
    $idle 'EPOCH_ONE - PARKED_ONE' '0u64.wrapping_sub(PARKED_ONE)' \
    $idle 'step -= SENTINEL;' 'step = step.wrapping_sub(SENTINEL);' \
    $idle 'step += SEARCHING_ONE;' 'step = step.wrapping_add(SEARCHING_ONE);'
spare "idle: all_parked Relaxed" quiet \
    $idle 'fn all_parked(&self) -> Option<Crew> { let now = Crew(self.word.load(SeqCst));' \
    'fn all_parked(&self) -> Option<Crew> { let now = Crew(self.word.load(Relaxed));'
# Fences of the gate and of the waiters are next to both, and loom's are stronger than promised.
spare "apart: end without Release" apart $apart 'fetch_sub(1, SeqCst)' 'fetch_sub(1, Acquire)'
spare "apart: the look without Acquire" apart $apart 'self.0.load(SeqCst)' 'self.0.load(Relaxed)'
spare "quiet: announce without its fence" quiet $quiet 'tell: impl FnOnce(Vec<Waker>), ) -> bool { fence(SeqCst);' 'tell: impl FnOnce(Vec<Waker>), ) -> bool {'
spare "gate: enter Relaxed" quiet $gate 'stripe.fetch_add(1, SeqCst)' 'stripe.fetch_add(1, Relaxed)'
spare "gate: leave Relaxed" quiet $gate '.wrapping_sub(1), SeqCst)' '.wrapping_sub(1), Relaxed)'
spare "gate: inside without its fence" quiet $gate 'crate::sync::fence(SeqCst);' ''
spare "gate: inside Relaxed" quiet $gate 'stripe.load(Acquire) & INSIDE' 'stripe.load(Relaxed) & INSIDE'

# The later change of the word publishes this step to every thread that sees the slot parked.
spare "spares: a turn's leaving Relaxed" spares $spares 'self.0.fetch_add(1, AcqRel);' 'self.0.fetch_add(1, Relaxed);'
# The thread that lowered the alarm was the last to change it before the lock, or reads it again.
spare "spares: handed over without its fence" alarm $roles 'fence(SeqCst); // for the look at the alarm: see `vacant`' ''

# The side that releases the slot needs no Acquire, and the side that only takes needs no Release.
# A waker stays behind only after a panic in its clone, and no model has such a waker.
spare "reply: a left-behind waker is kept" reply \
    $reply '// A poll that went back to `EMPTY` left its waker behind. drops::drop_waker(this.take_waker());' ''
spare "reply: EMPTY to READY without Acquire" reply \
    $reply 'compare_exchange(EMPTY, READY, AcqRel, Acquire)' 'compare_exchange(EMPTY, READY, Release, Relaxed)'
spare "reply: WAITING to LOCKED without Release" reply \
    $reply 'compare_exchange(WAITING, LOCKED, AcqRel, Acquire)' 'compare_exchange(WAITING, LOCKED, Acquire, Relaxed)'
spare "reply: LOCKED to READY without Acquire" reply \
    $reply 'compare_exchange(LOCKED, READY, AcqRel, Acquire)' 'compare_exchange(LOCKED, READY, Release, Acquire)'
spare "reply: met GONE without Release" reply $reply 'fetch_or(0, AcqRel)' 'fetch_or(0, Acquire)'
spare "reply: a poll takes the waker back Relaxed" reply \
    $reply 'if state == WAITING { match this.state.compare_exchange(WAITING, EMPTY, AcqRel, Acquire)' \
    'if state == WAITING { match this.state.compare_exchange(WAITING, EMPTY, Relaxed, Acquire)'
spare "reply: abandon takes the waker back Relaxed" reply \
    $reply 'WAITING => match this.state.compare_exchange(WAITING, EMPTY, AcqRel, Acquire)' \
    'WAITING => match this.state.compare_exchange(WAITING, EMPTY, Relaxed, Acquire)'
spare "reply: EMPTY to WAITING without Acquire" reply \
    $reply 'compare_exchange(EMPTY, WAITING, AcqRel, Acquire)' 'compare_exchange(EMPTY, WAITING, Release, Acquire)'
spare "reply: EMPTY to GONE without Acquire" reply \
    $reply 'compare_exchange(EMPTY, GONE, AcqRel, Acquire)' 'compare_exchange(EMPTY, GONE, Release, Acquire)'
spare "reply: LOCKED to GONE without Acquire" reply \
    $reply 'compare_exchange(LOCKED, GONE, AcqRel, Acquire)' 'compare_exchange(LOCKED, GONE, Release, Acquire)'

printf '\n%-4s %-62s %-12s %s\n' "" "weakened" "models" "these then"
for row in "${table[@]}"; do
    IFS='|' read -r verdict name models found <<< "$row"
    printf '%-4s %-62s %-12s %s\n' "$verdict" "$name" "$models" "$found"
done
echo "$tried tried, $bad not as listed, $SECONDS s"
((bad == 0 && tried > 0))
