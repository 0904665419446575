"""What crmd 0.1.0 (commit 8f06435) did wrong under attack and failure, and the tests that show it mended.

Each of these tests failed on 0.1.0.
"""

from __future__ import annotations

from tests.conformance.saq_defects import Defect

_CROWDS = "http.test_crowds.test_"

DEFECTS: tuple[Defect, ...] = (
    Defect(
        "1",
        "a POST that was repeated 0.1 to 15 s later, as its answer was lost, added a second job, with the same "
        "Idempotency-Key and even with another payload: a second message",
        "Idempotency-Key stands for the request, 24 h and as long as its jobs live; a key stays taken for "
        "unique_for after its job completed or became unknown, 24 h in message, email and campaign",
        (
            "console.test_idempotency.test_a_repeat_gets_the_first_answer_with_the_jobs_present_state",
            "console.test_idempotency.test_a_repeat_after_the_outcome_was_trimmed_adds_nothing",
            "console.test_idempotency.test_another_body_under_the_same_key_is_refused",
            "faults.test_repeated_posts.test_nobody_is_messaged_twice",
            "console.test_idempotency.test_256_at_once_over_two_daemons_are_one_job",
            "console.test_idempotency.test_256_at_once_are_one_job",
            "console.test_idempotency.test_a_batch_as_a_whole",
            "console.test_idempotency.test_a_job_delayed_beyond_a_day",
            "console.test_unique_keys.test_a_repeat_after_the_job_was_trimmed_says_how_it_ended",
            "http.test_client_repeats.test_an_enqueue_whose_answer_was_lost",
            "lua.test_requests.test_it_is_known_as_long_as_a_job_lives",
            "lua.test_unique.test_a_key_is_held_from_the_end_on_by_what_was_done_or_may_have_been",
        ),
    ),
    Defect(
        "2",
        "an older START undid a later STOP; STOP was heard as the exact word only; stopped marketing was ignored",
        "the later word holds; phrases of twelve languages; marketing is a consent of its own",
        (
            "database.test_consent.test_the_later_word_holds_in_whatever_order_they_come",
            "database.test_consent.test_the_later_word_holds_however_many_are_said_at_once",
            "crm.test_whatsapp_event.test_a_word_that_comes_late_undoes_no_later_one",
            "crm.test_consent_keywords.test_the_word_counts_however_it_is_written",
            "crm.test_consent_keywords.test_the_phrases_of_each_language",
            "crm.test_consent_keywords.test_what_only_sounds_like_it_costs_nobody_a_customer",
            "crm.test_whatsapp_event.test_buttons_and_lists_may_say_it",
            "crm.test_whatsapp_event.test_the_button_that_stops_marketing_and_the_one_that_resumes_it",
            "crm.test_whatsapp_event.test_a_status_that_says_that_marketing_was_stopped",
            "crm.test_message_rows.test_an_answer_that_marketing_was_stopped_is_remembered",
            "faults.test_consent_kills.test_words_and_numbers_over_two_daemons_and_three_kills",
        ),
    ),
    Defect(
        "3",
        "who is known to WhatsApp by another number was two people: STOP and replies were lost",
        "contacts are found by either number, by what sends teach and by the rules of three countries",
        (
            "database.test_people.test_who_writes_by_the_other_form_meets_the_contact",
            "database.test_people.test_the_answer_to_a_send_teaches_the_number",
            "database.test_people.test_where_both_are_contacts_a_word_holds_for_both_and_neither_is_merged",
            "database.test_people.test_imports_meet_the_same_person",
            "crm.test_message_rows.test_who_was_written_to_by_another_number_is_heard",
            "crm.test_flow_inbound.test_a_reply_from_the_number_that_whatsapp_has",
            "crm.test_campaign.test_a_person_gets_it_once_by_whatever_number",
            "faults.test_consent_kills.test_words_and_numbers_over_two_daemons_and_three_kills",
        ),
    ),
    Defect(
        "4",
        "`once` for two recipients lost the second: its job completed with the first's message id",
        "the second fails at once, names both numbers (shortened), and sends nothing",
        (
            "database.test_messages.test_a_word_that_was_used_for_somebody_else_sends_nothing",
            "database.test_messages.test_a_word_for_two_recipients_at_once_sends_one_message",
            "crm.test_message_rows.test_a_word_that_was_used_for_somebody_else_fails_and_names_both",
        ),
    ),
    Defect(
        "5",
        "a compressed request body was unpacked in the event loop, for anybody, before and even after the answer",
        "a body with a content or transfer coding is refused with 415 and never unpacked",
        (
            "http.test_codings.test_a_compressed_body_is_refused_whatever_the_path",
            "http.test_codings.test_a_compressed_body_in_chunks_is_refused_too",
            "http.test_codings.test_what_claims_to_be_compressed_and_is_not_is_no_error_of_ours",
            "http.test_portions.test_tiny_chunks_are_parsed_a_portion_a_turn_and_come_whole",
            "http.test_portions.test_what_is_left_of_a_body_that_is_not_read_is_not_parsed",
            "faults.test_crowds.test_health_answers_while_bodies_come_in_tiny_chunks",
            "http.test_codings.test_an_upload_that_declares_a_coding_is_refused_and_a_gzip_file_is_kept_as_it_is",
        ),
    ),
    Defect(
        "6",
        "256 slow bodies, waits or streams shut out /health; 500 requests at once from one address were cut off",
        "slow clients give way, waits and streams are capped, probes have places of their own, all get an answer",
        (
            f"{_CROWDS}slow_bodies_give_way_and_are_told_why",
            f"{_CROWDS}the_slowest_body_gives_way",
            f"{_CROWDS}slow_bodies_are_held_to_their_number_where_there_is_room",
            f"{_CROWDS}large_bodies_give_way_when_they_hold_too_much_together",
            f"{_CROWDS}clients_that_do_not_read_give_way",
            f"{_CROWDS}one_token_has_its_part_of_the_waits_and_streams",
            f"{_CROWDS}a_wait_that_finds_no_place_adds_no_job",
            f"{_CROWDS}while_every_connection_is_busy_probes_answer_and_others_come_back",
            f"{_CROWDS}five_hundred_requests_at_once_from_one_address_are_answered",
            f"{_CROWDS}what_is_too_much_at_once_is_told_to_come_back_and_not_cut_off",
            "faults.test_crowds.test_health_answers_while_connections_are_held",
            "faults.test_crowds.test_five_hundred_requests_of_one_node_program_are_answered",
            "faults.test_crowds.test_many_large_bodies_at_once_are_bounded_in_bytes",
        ),
    ),
    Defect(
        "7",
        "nested lists and huge numbers in a template took half a minute or tens of GiB, and many templates in one"
        " request were compiled in the event loop",
        "every operation takes from one budget beforehand, no value grows beyond a bound, and payloads with"
        " templates are checked in a thread",
        (
            "crm.test_templates.test_what_is_built_and_computed_is_bounded_beforehand",
            "crm.test_templates.test_no_mix_of_operations_costs_much",
            "crm.test_templates.test_a_text_that_is_far_too_complex_is_refused_before_its_tree_is_made",
            "console.test_jobs_api.test_a_payload_whose_check_takes_long_is_checked_outside_the_loop",
        ),
    ),
    Defect(
        "8",
        "SAQ's page over 50 large hostile payloads masked all of them in the event loop before it cut them, and a"
        " list of 200 such jobs took 640 MiB",
        "cut first, then masked, in a thread, so many characters a page; pages end after 2 MiB, with a cursor",
        (
            "console.test_ui.test_a_page_over_hostile_payloads_is_short_and_masks_little",
            "console.test_jobs_api.test_a_page_of_large_jobs_ends_early_and_goes_on_behind",
            "console.test_jobs_api.test_a_search_among_large_jobs_goes_on_where_it_ended",
            "console.test_queues_api.test_metrics_decode_few_large_jobs_and_outside_the_loop",
            "unit.test_logs.test_only_the_start_of_a_text_is_masked",
            "unit.test_logs.test_no_cut_shows_a_secret",
        ),
    ),
    Defect(
        "9",
        "a start on a store that refuses writes spun with 2,200 log lines a second, or ended with 1",
        "it waits with pauses, says for what in STATUS, /readyz and the log, and goes on by itself",
        (
            "daemon.test_process_refused.test_a_start_waits_for_a_store_that_refuses_writes",
            "daemon.test_embedded_damage.test_a_start_without_room_waits_and_says_why",
            "faults.test_embedded.test_a_start_on_a_full_disk_waits_for_room",
        ),
    ),
    Defect(
        "10",
        "one spooled outcome that the store refused, or a garbled outcomes.json, kept the daemon from starting",
        "what is refused or unreadable is set aside and named; all else is written, and the queues run",
        (
            "engine.test_pending_acks.test_a_refused_outcome_is_set_aside_and_the_others_are_written",
            "engine.test_pending_acks.test_what_cannot_be_read_is_set_aside_and_the_rest_is_written",
            "engine.test_pending_acks.test_a_start_that_cannot_write_any_outcome_keeps_them_all",
            "engine.test_pending_acks.test_a_stop_over_an_unreadable_spool_keeps_both",
        ),
    ),
    Defect(
        "11",
        "after a step of the store's clock daemons took each other's running jobs, or left those of dead ones; "
        "limits let through too many or held the queue for as long as the step was wide",
        "daemons are dead when the others saw no renewal for a lease by their own clocks; limits count real time",
        (
            "unit.test_lease_observer.test_any_change_is_a_sign_of_life",
            "conformance.test_lost_jobs.test_a_step_of_the_stores_clock_takes_no_job_of_a_living_daemon",
            "conformance.test_lost_jobs.test_a_dead_daemons_jobs_are_taken_though_the_stores_clock_went_back",
            "faults.test_store_clock.test_steps_of_the_stores_clock_take_no_running_job",
            "lua.test_limit_clock.test_a_limit_counts_real_time_however_the_clock_is_set",
            "lua.test_limit_clock.test_a_limit_is_used_again_within_its_period",
            "lua.test_limit_clock.test_a_hold_lasts_as_long_as_was_asked_for",
            "lua.test_limit_clock.test_a_limit_by_key_rests_as_long_as_it_should",
            "console.test_health.test_a_limit_explains_no_more_than_its_period",
            "unit.test_lease_observer.test_a_step_is_noticed_once",
            "faults.test_store_clock.test_what_stands_in_the_stores_time_moves_with_it",
            "faults.test_store_clock.test_a_rate_limit_holds_and_is_used_while_the_clock_is_set",
            "faults.test_store_clock.test_the_jobs_of_a_dead_daemon_are_taken_though_the_clock_went_back",
        ),
    ),
    Defect(
        "12",
        "with a user without channels all looked well, jobs ran, and no outcome was ever written",
        "permissions are tested at the start, what is missing named (78), what is taken away later noticed",
        (
            "daemon.test_process_refused.test_a_user_without_channels_is_bad_configuration",
            "engine.test_access.test_a_start_names_what_is_missing",
            "engine.test_access.test_the_documented_permissions_are_enough",
            "engine.test_access.test_our_own_keys_and_channels_are_enough",
            "engine.test_access.test_all_commands_that_are_used_are_tested",
            "engine.test_access.test_what_is_taken_away_at_work_stops_the_queue_and_is_said_until_it_is_back",
        ),
    ),
    Defect(
        "13",
        "a lost manifest of the append-only file was a silent fresh start, and the next one mixed old and new",
        "data that the manifest does not list are damage: 78, nothing changed, and the command that lists them",
        (
            "daemon.test_embedded_damage.test_a_manifest_that_does_not_list_the_files_is_refused_and_nothing_changed",
            "daemon.test_embedded_damage.test_a_renamed_folder_of_data_is_no_fresh_start",
            "daemon.test_embedded_damage.test_a_file_of_the_manifest_that_is_missing_is_refused",
            "daemon.test_embedded_damage.test_what_a_killed_server_may_leave_is_no_damage",
        ),
    ),
    Defect(
        "14",
        "/readyz stayed 200 while the store took no writes; what never comes was waited for; no path in errors",
        "503 with the reason until writes are taken; 78 that names the file, the database or the folder",
        (
            "daemon.test_process_refused.test_a_store_that_refuses_writes_is_unready_with_a_reason_until_it_takes_them",
            "daemon.test_process_refused.test_data_of_another_user_are_named_with_the_remedy",
            "engine.test_store_client.test_a_database_that_is_not_there_is_final",
            "engine.test_store_client.test_a_tls_file_that_cannot_be_read_is_final_and_named",
            "engine.test_store_client.test_a_tls_file_of_another_kind_is_final_and_named",
        ),
    ),
    Defect(
        "15",
        "under bad configuration each connection that waited at the socket unit started the service again: 55 "
        "failed starts in 19 s; READY=1 went out before the first right STATUS=",
        "exit status 78 stops the socket unit, and the next start of the service brings it back; one message has "
        "both",
        (
            "daemon.test_unit.test_bad_configuration_stops_the_socket_that_would_start_it_again",
            "daemon.test_unit.test_a_start_brings_the_socket_back",
            "daemon.test_systemd_run.test_readiness_and_the_first_status_come_in_one_message",
        ),
    ),
    Defect(
        "16",
        "malformed input was answered 500, or lost the rest of what came with it",
        "what is malformed is refused or skipped, counted and logged; the rest is handled",
        (
            "crm.test_whatsapp_event.test_whatever_one_item_has_of_a_wrong_type_the_others_are_taken_in",
            "crm.test_whatsapp_event.test_what_was_skipped_is_counted_in_the_log",
            "crm.test_whatsapp_hook.test_a_large_event_with_a_field_of_a_wrong_type_is_taken",
            "daemon.test_fuzz.test_mutated_requests_are_never_an_error_of_ours",
        ),
    ),
    Defect(
        "17",
        "five bad passwords from one address refused the valid tokens of everybody behind it",
        "a valid token always passes; wrong tokens and failed passwords are counted apart",
        (
            "http.test_auth.test_a_valid_token_is_never_locked_out",
            "http.test_auth.test_what_is_no_password_does_not_lock_out_the_right_one",
        ),
    ),
    Defect(
        "18",
        "control characters of a payload reached the terminal through fields of log lines and errors of commands",
        "they are written out, in logs, errors, answers and JSON",
        (
            "unit.test_logs.test_no_line_moves_the_cursor",
            "engine.test_cli_store.test_no_answer_or_error_moves_the_cursor",
        ),
    ),
    Defect(
        "19",
        "a module named in a queue's handlers gave it only the jobs marked for it; its others failed as not known",
        "the table decides: all jobs of the module are known to the queue",
        ("unit.test_catalog.test_a_module_gives_a_queue_all_its_jobs",),
    ),
    Defect(
        "20",
        "plain SAQ programs: update(status=ABORTING) cancelled nothing, finish() of a running job was stored as"
        " aborted, a late abort left its words as a finished job's error, a timeout did not say TimeoutError, and"
        " calls raised that return None in SAQ",
        "as with SAQ's own worker",
        (
            "conformance.test_plain_saq.test_running_jobs_end_as_a_program_says_by_update_and_finish",
            "conformance.test_plain_saq.test_a_late_abort_leaves_a_finished_job_its_end",
            "conformance.test_plain_saq.test_calls_of_a_saq_function_on_a_finished_job_are_no_errors",
            "conformance.test_plain_saq.test_a_timeout_of_null_is_the_queues_and_zero_is_none",
        ),
    ),
    Defect(
        "21",
        "imports lost half of each name, refused numbers that an export had written, did not know phone columns of"
        " several words or Google's labels, took 27 s for a file of broken lines, were poison after three restarts"
        " although they got on, and read ten XLSX files at once in 2 GiB each",
        "what an export writes an import takes back; such columns are known; a file that is not of contacts is"
        " given up; progress takes a job's deaths away; two XLSX files are read at a time",
        (
            "crm.test_import.test_no_half_of_a_name_is_lost",
            "crm.test_tabular.test_halves_of_a_name_are_known",
            "crm.test_export.test_numbers_in_whatsapps_forms_come_back",
            "database.test_phones.test_read",
            "database.test_phones.test_refused_with_a_reason",
            "crm.test_tabular.test_names_of_several_words_are_known_as_phones",
            "crm.test_import.test_of_googles_phones_the_mobile_one_is_taken",
            "crm.test_import_bad_rows.test_a_file_of_broken_rows_is_given_up_with_a_report",
            "crm.test_import_jobs.test_an_import_that_gets_on_outlives_any_number_of_daemons",
            "engine.test_worker.test_deaths_count_no_more_once_a_job_got_further",
            "crm.test_import.test_so_many_xlsx_files_are_read_at_a_time_and_the_others_wait",
        ),
    ),
    Defect(
        "22",
        "reactions, edits, revokes, unsupported kinds, group messages and old messages answered and started flows",
        "only what a person wrote to the business alone, within 24 hours, does",
        (
            "crm.test_whatsapp_event.test_what_is_no_fresh_private_message_starts_no_flow",
            "crm.test_whatsapp_event.test_what_is_no_fresh_private_message_answers_no_question",
        ),
    ),
    Defect(
        "23",
        was="140 messages left within a second at 80/s; each refusal stopped the queue for up to a minute, so that"
        " 16 % of Meta's rate was used; a fourth reply waited 11 s; Retry-After and is_transient were not read; a"
        " bulk retry of unknown jobs sent them again",
        now="messages leave evenly spaced over all daemons, less what comes in; a refusal halves the rate, which"
        " recovers; quick replies pass; Retry-After and is_transient count; unknown jobs are retried by key only",
        tests=(
            "lua.test_send_rate_model.test_nine_tenths_are_used_and_one_in_a_thousand_is_refused",
            "lua.test_send_rate.test_a_step_of_the_stores_clock_holds_nothing_up",
            "engine.test_send_rate.test_no_second_holds_more_than_the_rate",
            "faults.test_send_rate.test_nine_tenths_of_the_rate_are_used",
            "faults.test_send_rate.test_three_kills_neither_break_the_limit_nor_send_twice",
            "crm.test_whatsapp_pace.test_the_throughput_limit_holds_the_one_message_and_never_longer",
            "crm.test_whatsapp_errors.test_no_wait_is_shorter_than_retry_after",
            "crm.test_whatsapp_errors.test_an_unknown_code_that_will_pass_is_tried_again_and_not_for_ever",
            "crm.test_whatsapp_hook.test_what_people_write_now_is_taken_out_of_the_numbers_rate",
            "lua.test_limits.test_quick_replies_are_not_delayed",
            "console.test_bulk.test_unknown_jobs_run_again_only_by_their_key",
        ),
    ),
    Defect(
        "24",
        "newcomers: the demo's curl lines lacked the login, a mistyped job was accepted and failed minutes later,"
        " nothing said that /etc/crmd/config.toml was passed over or that others could write the file named by"
        " --config, and the pages lacked the expired token and the reverse proxy",
        "each is said at once, and the printed commands work",
        (
            "engine.test_cli_store.test_a_job_that_no_live_daemon_knows_is_refused",
            "engine.test_cli_store.test_a_job_that_a_live_daemon_knows_is_added_whatever_this_configuration_says",
            "unit.test_config_files.test_a_local_file_that_hides_the_systems_is_named",
            "unit.test_config_files.test_a_named_file_that_others_may_write_is_read_and_warned_about",
            "faults.test_demo.test_the_commands_that_it_prints_do_what_it_did",
        ),
    ),
    Defect(
        "25",
        "an entry that could not be read was in no list, HTTP and the command line showed secrets, and "
        "events told of stale outcomes that were written, and of retries and unknown jobs that the store refused",
        "it is listed with the reason, secrets are masked as on the page, and events are told of what is written",
        (
            "engine.test_cli_store.test_secrets_of_a_payload_are_masked",
            "engine.test_cli_store.test_what_could_not_be_read_is_listed",
            "engine.test_store_client.test_a_settle_whose_reply_is_lost_is_sent_again_and_counts_once",
            "engine.test_store_client.test_a_retry_whose_reply_is_lost_is_counted_once",
            "engine.test_store_client.test_what_the_store_refuses_is_told_as_stale_and_as_nothing_else",
            "engine.test_store_client.test_an_outcome_that_was_refused_at_the_second_try_may_be_anothers",
            "console.test_jobs_api.test_secrets_of_payloads_and_errors_are_masked_and_results_are_not",
            "console.test_queues_api.test_what_could_not_be_read_is_listed_without_its_secrets",
        ),
    ),
    Defect(
        "26",
        "a token that may only add jobs could fill the disk with uploads, and with it the append-only file's",
        "uploads have a quota of files and bytes for each user or token, and room is left on the disk",
        (
            "crm.test_files_api.test_one_keeps_so_many_uploads_and_another_has_a_quota_of_its_own",
            "crm.test_files_api.test_one_keeps_so_many_bytes",
            "crm.test_files_api.test_uploads_at_once_are_counted_together",
            "crm.test_files_api.test_room_is_left_on_the_disk",
        ),
    ),
    Defect(
        "27",
        "a restart with 100,000 jobs took 6.4 s on a busy machine: its parts were loaded, and then the jobs",
        "the embedded store loads its data while the daemon's parts are loaded and built",
        (
            "daemon.test_process_start.test_the_embedded_store_loads_while_the_daemon_is_built",
            "daemon.test_process_start.test_the_parts_of_the_daemon_are_not_loaded_before_the_store_starts",
        ),
    ),
)
