"""What the record of decisions says about rows: the digest that each had after its last event."""

from registry.core.db import Conn

# The type is compared before the body is read: not every event's body has these keys.
PROOFS = """
select distinct on (id) id, chain, proof from (
  select (body::jsonb ->> %(kind)s)::bigint as id, chain, body::jsonb ->> 'row' as proof, seq from registry.event
  where starts_with(type, %(kind)s || '.')) e
order by id, seq desc limit 1000000"""


def proofs(conn: Conn, kind: str) -> dict[int, tuple[str, str]]:
    """Chain and digest by number, for rows of one kind."""
    return {int(id): (str(chain), str(proof)) for id, chain, proof in conn.execute(PROOFS, {"kind": kind})}
