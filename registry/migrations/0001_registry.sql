-- Registry: who may send, which version answers, what was decided and by whom.
create schema registry;
create schema serving;
create schema monitoring;

-- Time-ordered ids (RFC 9562 version 7) without an extension; PostgreSQL 15 has no uuidv7().
create function registry.uuid7() returns uuid language sql volatile as $$
  select encode(set_bit(set_bit(overlay(uuid_send(gen_random_uuid())
    placing substring(int8send((extract(epoch from clock_timestamp()) * 1000)::bigint) from 3)
    from 1 for 6), 52, 1), 53, 1), 'hex')::uuid $$;

-- The clinic of this transaction; NULL (so: no rows) outside db.tenant(). nullif: the setting is '' after its transaction.
create function registry.current_clinic() returns uuid language sql stable as $$
  select nullif(current_setting('radfleet.clinic', true), '')::uuid $$;

create table registry.clinic(
  id uuid primary key default registry.uuid7(),
  slug text not null unique check (slug ~ '^[a-z0-9][a-z0-9-]{1,30}$'),
  name text not null,
  state text not null default 'registered' check (state in ('registered', 'active', 'suspended')),
  quiet_s real not null default 30 check (quiet_s between 0.2 and 3600),
  in_flight_max int not null default 2 check (in_flight_max between 1 and 100),
  dedicated boolean not null default false,
  created_at timestamptz not null default now());

create table registry.clinic_peer(
  id uuid primary key default registry.uuid7(),
  clinic_id uuid not null references registry.clinic,
  calling_ae text not null check (calling_ae ~ '^[ -\[\]-~]{1,16}$'),
  called_ae text not null default 'RADFLEET' check (called_ae ~ '^[ -\[\]-~]{1,16}$'),
  address cidr not null default '127.0.0.0/8',
  created_at timestamptz not null default now(),
  unique (called_ae, calling_ae));      -- the pair is the clinic's name on the wire, so it is unique in the fleet

create table registry.clinic_key(
  id uuid primary key default registry.uuid7(),
  clinic_id uuid not null references registry.clinic,
  key_id text not null unique check (length(key_id) = 8),
  sha256 bytea not null check (octet_length(sha256) = 32),
  scopes text[] not null check (scopes <@ array['submit', 'read']::text[] and cardinality(scopes) > 0),
  expires_at timestamptz not null,
  revoked_at timestamptz,
  last_used_on date,
  created_at timestamptz not null default now());

create table registry.account(
  id uuid primary key default registry.uuid7(),
  name text not null unique check (name ~ '^[a-z0-9][a-z0-9._-]{1,40}$'),
  role text not null check (role in ('viewer', 'qa', 'oncall', 'ml', 'admin')),
  active boolean not null default true,
  created_at timestamptz not null default now());

create table registry.scanner(
  id uuid not null default registry.uuid7() unique,
  clinic_id uuid not null references registry.clinic,
  vendor text not null, model text not null, serial text not null, software text not null, field_t real,
  first_seen_at timestamptz not null default now(),
  last_seen_at timestamptz not null default now(),
  primary key (clinic_id, id),
  unique (clinic_id, vendor, model, serial));

create table registry.model_version(
  digest text primary key check (digest ~ '^sha256:[0-9a-f]{64}$'),
  name text not null, version text not null, task text not null, runtime_class text not null,
  signed_by text not null default '',
  mlflow_name text, mlflow_version text,
  model jsonb not null, card jsonb not null,
  created_by text not null, created_at timestamptz not null default now(),
  unique (name, version));

create table registry.binding(
  clinic_id uuid not null references registry.clinic,
  task text not null,
  scope text not null default '*' check (scope ~ '^(\*|profile:.{1,64}|serial:.{1,64})$'),
  seq bigint not null,
  digest text not null references registry.model_version,
  role text not null default 'active' check (role in ('active')),
  valid tstzrange not null check (not isempty(valid)),
  bound_by text not null, reason text not null,
  primary key (clinic_id, task, scope, role, seq));
-- Never two open ranges for one scope: together with seq = last + 1 under a lock, ranges cannot overlap.
create unique index binding_open on registry.binding(clinic_id, task, scope, role) where upper_inf(valid);

create table registry.hold(
  id uuid primary key default registry.uuid7(),
  kind text not null check (kind in ('clinic', 'scanner', 'version')),
  clinic_id uuid references registry.clinic,
  target text not null,
  reason text not null, placed_by text not null,
  placed_at timestamptz not null default now(),
  released_at timestamptz, released_by text,
  check ((kind = 'version') = (clinic_id is null)));
create unique index hold_open on registry.hold(kind, target) where released_at is null;

-- Hash-chained record of decisions. The head row is the lock: without it two writers read one prev_hash and the chain forks.
create table registry.chain_head(chain text primary key, seq bigint not null, hash bytea not null);
create table registry.event(
  chain text not null, seq bigint not null, at timestamptz not null, actor text not null, type text not null,
  body text not null, prev_hash bytea not null, hash bytea not null,
  primary key (chain, seq));
create function registry.append_event(p_chain text, p_actor text, p_type text, p_body text) returns bigint
language plpgsql as $$
declare h registry.chain_head; s bigint; t timestamptz := clock_timestamp(); nh bytea;
begin
  insert into registry.chain_head values (p_chain, 0, sha256(convert_to('radfleet:' || p_chain, 'UTF8')))
    on conflict do nothing;
  select * into h from registry.chain_head where chain = p_chain for update;
  s := h.seq + 1;
  nh := sha256(h.hash || convert_to(concat_ws(E'\x1f', p_chain, s,
    to_char(t at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US'), p_actor, p_type, p_body), 'UTF8'));
  insert into registry.event values (p_chain, s, t, p_actor, p_type, p_body, h.hash, nh);
  update registry.chain_head set seq = s, hash = nh where chain = p_chain;
  return s;
end $$;
create function registry.refuse_change() returns trigger language plpgsql as $$
begin raise exception 'rows of % are never changed or removed', tg_table_name using errcode = '42501'; end $$;
create trigger event_fixed before update or delete on registry.event
  for each row execute function registry.refuse_change();
create trigger event_kept before truncate on registry.event execute function registry.refuse_change();
-- A version is what its digest says: only its MLflow label may be filled in later.
create function registry.refuse_version_change() returns trigger language plpgsql as $$
begin
  if tg_op = 'DELETE' or (to_jsonb(new) - 'mlflow_name' - 'mlflow_version')
     is distinct from (to_jsonb(old) - 'mlflow_name' - 'mlflow_version') then
    raise exception 'a model version is never changed or removed' using errcode = '42501';
  end if;
  return new;
end $$;
create trigger version_fixed before update or delete on registry.model_version
  for each row execute function registry.refuse_version_change();

-- The queue: leases with fencing (registry/core/queue_store.py). Written by every package through that one module.
create sequence registry.fence_seq;
create table registry.job(
  id bigint generated always as identity primary key,
  clinic_id uuid not null references registry.clinic,
  kind text not null check (kind in ('infer')),
  dedup_key text not null,
  study_id uuid, revision int,
  priority smallint not null default 0,
  state text not null default 'ready' check (state in ('ready', 'leased', 'done', 'rejected', 'dead')),
  run_at timestamptz not null default now(),
  attempts smallint not null default 0, max_attempts smallint not null default 3,
  fence bigint not null default 0, owner text, lease_until timestamptz,
  payload jsonb not null default '{}', last_error text,
  created_at timestamptz not null default now(), finished_at timestamptz,
  unique (clinic_id, dedup_key), unique (clinic_id, id),
  check ((state = 'leased') = (lease_until is not null)))
  with (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_cost_delay = 0);
create index job_ready on registry.job(priority desc, run_at, id) where state = 'ready';
create index job_lease on registry.job(lease_until) where state = 'leased';
create index job_clinic_leased on registry.job(clinic_id) where state = 'leased';
create index job_study on registry.job(clinic_id, study_id);
