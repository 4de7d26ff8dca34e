"""The names, types and labels of all metrics. Exported, documented and displayed metrics are compared with them."""

SUCCESS = "syncer_run_last_success_timestamp_seconds"
COMPLETION = "syncer_run_last_completion_timestamp_seconds"

CONTRACT: dict[str, tuple[str, set[str]]] = {
    "syncer_build_info": ("gauge", {"version"}),
    "syncer_runs_total": ("counter", {"trigger", "outcome"}),
    "syncer_run_duration_seconds": ("histogram", {"outcome"}),
    "syncer_run_in_progress": ("gauge", set()),
    SUCCESS: ("gauge", set()),
    COMPLETION: ("gauge", set()),
    "syncer_schedule_next_run_timestamp_seconds": ("gauge", {"schedule"}),
    "syncer_images_total": ("counter", {"outcome", "source", "destination"}),
    "syncer_tasks": ("gauge", {"kind", "state"}),
    "syncer_tasks_total": ("counter", {"kind", "outcome"}),
    "syncer_blobs_total": ("counter", {"outcome", "destination"}),
    "syncer_blob_bytes_total": ("counter", {"direction", "registry"}),
    "syncer_http_requests_total": ("counter", {"registry", "method", "endpoint", "status"}),
    "syncer_http_request_duration_seconds": ("histogram", {"registry", "endpoint"}),
    "syncer_http_retries_total": ("counter", {"registry", "reason"}),
    "syncer_runs_skipped_total": ("counter", {"reason"}),
    "syncer_rate_limit_remaining": ("gauge", {"registry", "account"}),
    "syncer_concurrency_limit": ("gauge", {"registry"}),
    "syncer_events_total": ("counter", {"kind", "outcome"}),
    "syncer_mirror_lag_seconds": ("gauge", {"destination"}),
    "syncer_images_drifted": ("gauge", {"destination"}),
    "syncer_images_incomplete": ("gauge", {"destination"}),
    "syncer_tags_pruned_total": ("counter", {"destination"}),
    "syncer_prune_failures_total": ("counter", {"destination"}),
    "syncer_config_last_reload_successful": ("gauge", set()),
    "syncer_config_last_reload_timestamp_seconds": ("gauge", set()),
}
