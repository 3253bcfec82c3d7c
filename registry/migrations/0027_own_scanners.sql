-- A clinic's own page tells when its own scanners changed; row-level security (policy tenant of 0024) keeps it to those.
grant select on monitoring.acquisition, monitoring.acquisition_v to radfleet_app;
