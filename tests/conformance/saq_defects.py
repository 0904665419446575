"""What stock SAQ 0.26 on Redis does wrong, what crmd does instead, and the tests that show it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Defect:
    """One defect: what happened, what happens instead, and the tests that show it."""

    id: str
    was: str
    now: str
    tests: tuple[str, ...]
    """`module.test`, below `tests`."""


_LOST = "conformance.test_lost_jobs.test_"
_DUPLICATE = "conformance.test_duplicate_deliveries.test_"
_STUCK = "conformance.test_stuck_jobs.test_"
_PLAIN = "conformance.test_plain_saq.test_"
_PAGE = "conformance.test_page.test_"
_CLIENT = "engine.test_store_client.test_"
_STOP = "engine.test_stop.test_"

DEFECTS = (
    # Lost or stuck
    Defect(
        "L1",
        "a job of one attempt whose worker is killed is swept: aborted, never run again",
        "a lost delivery is no attempt; it runs again, and is poison after three deaths",
        (
            f"{_LOST}a_job_of_one_attempt_runs_again_when_its_daemon_is_killed",
            "engine.test_worker.test_a_job_that_kills_its_daemon_three_times_is_poison",
            "daemon.test_process_kill.test_what_ran_runs_again_and_the_attempt_is_not_counted",
        ),
    ),
    Defect(
        "L2",
        "a job without time limit whose worker is killed stays active for ever",
        "a lease, not a time limit, says which jobs are orphans",
        (f"{_LOST}a_job_without_a_time_limit_runs_again_when_its_daemon_is_killed",),
    ),
    Defect(
        "L3",
        "orphans come back one by one, 5 s each, after a minute",
        "the predecessor's come back at the start, all others when their daemon's lease is over",
        (
            f"{_LOST}a_thousand_jobs_of_a_killed_daemon_run_again_within_two_seconds",
            f"{_LOST}another_daemon_takes_the_jobs_of_a_dead_one_when_its_lease_is_over",
            f"{_LOST}leases_that_ran_out_while_the_store_was_away_are_not_believed",
            f"{_LOST}leases_that_nobody_could_renew_are_not_believed",
        ),
    ),
    Defect(
        "L4",
        "a sweeper killed between two steps leaves the job in no list",
        "one step of the store, and what a dead finder had taken over is found again",
        (
            f"{_LOST}a_recovery_that_is_cut_short_anywhere_loses_no_job",
            f"{_LOST}what_a_recovery_took_over_and_could_not_settle_keeps_its_outcome",
            "lua.test_recover.test_it_stays_unknown_when_its_finder_dies_too",
        ),
    ),
    Defect(
        "L5",
        "an entry that is no job ends every sweep at it, and the page of its queue",
        "it is set aside once; all others run and are shown",
        (
            f"{_LOST}what_is_no_job_is_set_aside_once_and_the_others_run",
            f"{_LOST}a_running_job_that_becomes_unreadable_does_not_stop_the_recovery_of_others",
            f"{_LOST}a_job_with_odd_fields_runs_and_is_shown",
            f"{_PAGE}a_job_that_cannot_be_read_breaks_no_page",
        ),
    ),
    Defect(
        "L6",
        "a cron expression that never comes due stops all delayed jobs of its queue",
        "it is refused with the configuration; delayed jobs do not wait for schedules",
        (
            f"{_LOST}an_impossible_cron_is_refused_with_its_reason",
            f"{_LOST}delayed_jobs_run_whatever_cron_jobs_a_saq_worker_left",
        ),
    ),
    Defect(
        "L7",
        "two cron jobs of one function share a key: the second never runs",
        "a schedule is known by its own name",
        (f"{_LOST}two_schedules_of_one_job_are_two",),
    ),
    Defect(
        "L8",
        "a changed or removed cron job keeps its old slot",
        "a slot that SAQ left is an ordinary delayed job: it runs once, and can be deleted",
        (
            f"{_LOST}delayed_jobs_run_whatever_cron_jobs_a_saq_worker_left",
            f"{_PLAIN}a_saq_worker_is_reported_once_and_its_cron_job_is_an_ordinary_job",
        ),
    ),
    Defect(
        "L9",
        "a handler that raises CancelledError itself: neither finished nor retried",
        "a failure like any other, unless we cancelled it",
        (f"{_LOST}whatever_a_handler_raises_its_job_fails_and_the_next_runs",),
    ),
    Defect(
        "L10",
        "a result that is not JSON: finish and retry raise, the job is stuck and runs again",
        "it fails once, with the reason",
        (
            f"{_LOST}a_result_that_is_no_json_fails_its_job_once",
            f"{_LOST}a_handler_that_spoils_its_payload_spoils_nothing_else",
            f"{_LOST}a_result_beyond_64_bits_is_kept_as_it_is",
        ),
    ),
    Defect(
        "L11",
        "a dequeue cut while its answer is on the way: the job is active, nobody runs it",
        "nothing is taken by a call that is cut; what was leased in vain is given back",
        (
            f"{_LOST}a_claim_whose_answer_is_late_when_the_daemon_stops_is_given_back",
            f"{_CLIENT}a_claim_whose_reply_is_lost_costs_neither_the_job_nor_an_attempt",
            f"{_STOP}a_claim_answered_after_the_stop_starts_nothing",
            f"{_STOP}what_a_lost_claim_leased_is_given_back_at_the_stop",
        ),
    ),
    Defect(
        "L12",
        "an abort of a finished job makes it aborting for ever; of a dead worker's job, loses it",
        "refused for a finished job, carried out for an orphan; what a SAQ client wrote is put right",
        (
            f"{_LOST}a_finished_job_takes_no_cancel_and_keeps_its_end",
            f"{_LOST}what_a_saq_client_writes_over_a_finished_job_is_put_right",
            f"{_LOST}an_abort_of_a_job_whose_daemon_is_dead_ends_it",
            f"{_PAGE}an_abort_of_a_finished_job_is_refused_and_changes_nothing",
        ),
    ),
    Defect(
        "L13",
        "the abort key bears no queue name: enqueues of the same key elsewhere are swallowed for 5 s",
        "our cancel needs no such key, and a SAQ client's is removed once it has done its work",
        (
            f"{_PLAIN}an_aborted_key_may_be_used_again_at_once_in_every_queue",
            f"{_LOST}an_abort_in_one_queue_leaves_the_same_key_of_another_alone",
            f"{_LOST}queue_names_that_would_meet_other_keys_are_refused",
        ),
    ),
    Defect(
        "L14",
        "sys.exit() in a handler ends the whole worker",
        "it fails its job",
        (
            f"{_LOST}whatever_a_handler_raises_its_job_fails_and_the_next_runs",
            f"{_LOST}sys_exit_in_a_thread_fails_its_job_only",
        ),
    ),
    Defect(
        "L15",
        "a step of the clock makes all running jobs stuck: swept, cancelled, aborted",
        "leases are kept in the store's time, deadlines on the monotonic clock",
        (f"{_LOST}a_step_of_the_clock_takes_no_running_job",),
    ),
    # Doubled
    Defect(
        "D1",
        "a retry without delay is queued twice, and exceeds its attempts",
        "put back once, in one step",
        (
            f"{_DUPLICATE}a_retry_at_once_runs_once_for_each_attempt",
            f"{_DUPLICATE}a_retry_after_the_time_of_the_handlers_choice_runs_once",
            f"{_CLIENT}a_retry_whose_reply_is_lost_is_counted_once",
        ),
    ),
    Defect(
        "D2",
        "the sweeper takes a job that was just dequeued; its success is overwritten, or it runs again",
        "a job is leased in the step that takes it; what the lease does not cover changes nothing",
        (
            f"{_DUPLICATE}a_job_mentioned_many_times_runs_once",
            f"{_DUPLICATE}a_recovery_takes_no_job_of_a_living_daemon",
            f"{_DUPLICATE}the_end_of_a_job_that_was_taken_over_is_not_overwritten",
            f"{_DUPLICATE}a_late_outcome_of_a_dead_daemon_changes_nothing",
            f"{_DUPLICATE}several_daemons_share_a_queue_and_run_each_job_once",
        ),
    ),
    Defect(
        "D3",
        "the page's retry queues a running job once more with each click",
        "only what failed or was cancelled is retried, once",
        (
            f"{_DUPLICATE}a_running_job_is_not_queued_a_second_time",
            f"{_DUPLICATE}a_failed_job_that_is_retried_many_times_at_once_is_queued_once",
            f"{_PAGE}clicks_on_retry_of_a_running_job_run_nothing_twice",
        ),
    ),
    Defect(
        "D4",
        "outcomes of jobs that end while the store is dead are thrown away; they run again",
        "outcomes are kept and written when it is back, or spooled",
        (
            f"{_DUPLICATE}jobs_that_end_while_the_store_is_dead_ran_once_and_complete_at_once",
            f"{_CLIENT}outcomes_that_a_restarted_store_forgot_are_written_again",
            f"{_CLIENT}a_settle_whose_reply_is_lost_is_sent_again_and_counts_once",
            "engine.test_worker.test_outcomes_of_a_stop_without_a_store_are_written_at_the_next_start",
        ),
    ),
    Defect(
        "D5",
        "update() races with the end: the finished job is active for ever",
        "an update needs the lease; what a SAQ client wrote is put right",
        (
            f"{_DUPLICATE}an_update_of_a_finished_job_changes_nothing",
            f"{_DUPLICATE}an_update_that_races_with_the_end_never_wins",
            f"{_DUPLICATE}what_a_saq_clients_update_made_of_a_finished_job_is_put_right",
            f"{_PLAIN}what_a_saq_function_updates_is_kept_beside_unknown_fields",
        ),
    ),
    Defect(
        "D6",
        "a drain puts cancelled jobs back and spends an attempt, or restarts them without end unseen",
        "given back uncounted, each time noted in the job's timeline",
        (f"{_DUPLICATE}a_job_given_back_by_deploys_spends_neither_attempts_nor_deliveries",),
    ),
    Defect(
        "D7",
        "an enqueue that was stored but whose reply was lost answers None on its repetition",
        "the library repeats nothing; an enqueue under a taken key answers with the job that has it",
        (
            f"{_DUPLICATE}an_enqueue_under_a_taken_key_answers_with_the_job_that_has_it",
            f"{_CLIENT}an_enqueue_whose_reply_is_lost_may_be_repeated_under_its_key",
        ),
    ),
    # Spin, hang, drain
    Defect(
        "S1",
        "dequeue errors are swallowed and repeated at once: a whole core, no log line",
        "one connection that waits between attempts, a pause after a refusal, the reason said once",
        (
            f"{_STUCK}a_dead_store_costs_nearly_nothing",
            f"{_STUCK}an_acl_that_denies_what_queues_need_is_said_and_costs_little",
            f"{_STUCK}wrong_types_at_every_structural_key_degrade_their_queue_only",
            f"{_STUCK}at_the_memory_limit_the_backlog_drains_and_new_jobs_are_refused",
            f"{_CLIENT}reconnects_are_jittered_and_neither_rare_nor_hasty",
            f"{_CLIENT}a_master_that_becomes_a_replica_is_away_without_spinning_and_back_as_master",
        ),
    ),
    Defect(
        "S2",
        "the pub/sub loop spins on a dead connection: a wedged process, hundreds of tracebacks a second",
        "the listener reconnects at intervals, and notices a connection that died silently",
        (
            f"{_STUCK}a_store_that_dies_while_queues_start_costs_nearly_nothing",
            f"{_STUCK}a_dead_store_costs_nearly_nothing",
            f"{_STUCK}a_wake_connection_that_died_silently_is_noticed",
            f"{_STUCK}a_wake_up_that_was_lost_is_made_up_for",
        ),
    ),
    Defect(
        "S3",
        "each worker installs signal handlers, and removes them all when it stops",
        "signals belong to the daemon",
        (
            f"{_STUCK}workers_take_no_signals",
            f"{_STUCK}ten_queues_start_and_stop_without_touching_signals_and_at_once",
            "daemon.test_process_stop.test_signals_until_the_very_end_do_no_harm",
        ),
    ),
    Defect(
        "S4",
        "an idle stop waits for blocked reads and sleeping tasks: the whole grace",
        "everything waits on something that a stop can wake: at once",
        (
            f"{_STUCK}ten_queues_start_and_stop_without_touching_signals_and_at_once",
            "daemon.test_process_stop.test_an_idle_daemon_ends_within_a_second",
        ),
    ),
    Defect(
        "S5",
        "idle slots take jobs during the drain",
        "none starts any more",
        (f"{_STUCK}no_job_starts_during_a_drain", f"{_STOP}a_claim_answered_after_the_stop_starts_nothing"),
    ),
    Defect(
        "S6",
        "a handler that ignores being cancelled holds the stop, its slot, and other aborts",
        "it is given up after a second, its slot freed and counted as leaked",
        (
            f"{_STUCK}a_handler_that_ignores_cancellation_does_not_hold_up_a_stop",
            f"{_STUCK}a_handler_that_ignores_its_timeout_frees_its_slot_and_delays_no_cancel",
            "daemon.test_process_stop.test_a_handler_that_never_ends_does_not_hold_the_daemon",
        ),
    ),
    Defect(
        "S7",
        "the stop waits for threads on the event loop",
        "nobody waits for threads; those that run on are counted",
        (
            f"{_STUCK}a_thread_that_ignores_its_timeout_stalls_neither_the_loop_nor_the_stop",
            f"{_STOP}threads_that_nobody_waits_for_are_counted_until_they_end",
        ),
    ),
    Defect(
        "S8",
        "a frozen store holds every call, the page and /health",
        "every call answers within five seconds, then at once",
        (
            f"{_STUCK}a_frozen_store_is_noticed_and_every_call_answers",
            f"{_CLIENT}a_store_that_says_nothing_is_away_within_five_seconds",
            f"{_PAGE}health_answers_while_the_store_is_frozen",
        ),
    ),
    Defect(
        "S9",
        "at the memory limit no job can be taken or finished",
        "taking and finishing go on; new jobs are refused from 80 % on",
        (
            f"{_STUCK}at_the_memory_limit_the_backlog_drains_and_new_jobs_are_refused",
            f"{_STUCK}new_jobs_are_refused_before_the_memory_limit_is_reached",
        ),
    ),
    Defect(
        "S10",
        "on a full disk it spins",
        "it waits, says why, and goes on when there is space; nobody takes another's jobs for it",
        (
            "faults.test_full_disk.test_two_daemons_on_a_full_disk_take_no_job_from_each_other",
            f"{_LOST}leases_that_nobody_could_renew_are_not_believed",
        ),
    ),
    Defect(
        "S11",
        "all due jobs are moved in one step, and named in one log line",
        "in batches; no step holds the store for 20 ms",
        (
            f"{_STUCK}due_jobs_are_promoted_in_batches",
            "faults.test_due_jobs.test_a_hundred_thousand_due_jobs_never_hold_the_store",
        ),
    ),
    Defect(
        "S12",
        "the second page of jobs is empty or wrong",
        "pages follow one another",
        (f"{_STUCK}pages_of_jobs_follow_one_another",),
    ),
    Defect(
        "S13",
        "a connection for each slot, and polling",
        "a handful of connections, few trips",
        (f"{_STUCK}ten_idle_queues_need_few_connections_and_few_trips",),
    ),
    Defect(
        "S14",
        "every change of state writes the whole job, of whatever size",
        "a short job is written once after its enqueue; large ones are refused",
        (f"{_STUCK}large_jobs_are_refused", f"{_STUCK}a_short_job_is_written_once_after_its_enqueue"),
    ),
)
