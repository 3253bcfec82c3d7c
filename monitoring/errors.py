"""Every failure of monitoring by name; how each door answers them stands in registry.core.errors."""

from registry.core.errors import Conflict, Invalid, NotFound, Unmet


class StateDamaged(Invalid):
    """These bytes are not the state of a stream."""

    code = "monitoring.state_damaged"
    why = "They were cut, changed, or written by another version."
    cure = "Rebuild the state from the stream's feature rows: it is computed from them alone."


class TableMissing(NotFound):
    """There is no such table, or it may not be read."""

    code = "monitoring.table_missing"
    why = "A replay reads one file, and nothing could be read at that path."
    cure = "Give the path of a CSV or TSV file that you may read."


class TableDamaged(Invalid):
    """This file is no whole table."""

    code = "monitoring.table_damaged"
    why = "A replay of half a table would look like a quiet one."
    cure = "Export the table again as UTF-8 CSV or TSV with a header line, packed by gzip or not."


class TableEmpty(Invalid):
    """This table has no rows."""

    code = "monitoring.table_empty"
    cure = "Export the table with a header line and one line for each study."


class ColumnUnknown(NotFound):
    """The table has no such column, or more than one."""

    code = "monitoring.column_unknown"
    cure = "Give names from the table's header line, as they stand there."


class ColumnNotNumeric(Invalid):
    """A column that should be watched holds something that is no number."""

    code = "monitoring.column_not_numeric"
    why = "Ranks need numbers; empty, NA, n/a, NaN, None and null count as missing."
    cure = "Leave the column out of --columns, or export it as plain numbers with a decimal point."


class ColumnConstant(Invalid):
    """A column has one value in every row."""

    code = "monitoring.column_constant"
    why = "What never changes tells nothing, and it would thin out the evidence of the other columns."
    cure = "Leave the column out of --columns."


class ColumnEmpty(Invalid):
    """A column has no value at all."""

    code = "monitoring.column_empty"
    why = "Every row of it is missing."
    cure = "Leave the column out of --columns, or export it with its values."


class OrderUnusable(Invalid):
    """A column cannot put the rows in order."""

    code = "monitoring.order_unusable"
    why = "Its cells are not all numbers, nor all dates or times (ISO 8601 or RFC 5322)."
    cure = "Give --order a column of numbers or ISO 8601 times without gaps, or leave it out for the file's order."


class ReferenceUnfit(Invalid):
    """These rows cannot be a reference."""

    code = "monitoring.reference_unfit"
    why = "A row is ranked among at least 50 earlier ones of its own group, and something must be left to watch."
    cure = (
        "Give --reference a number from 50 to one less than the table has rows, and leave out sparse columns."
    )


class BudgetUnfit(Invalid):
    """Studies a day and flags a year make no threshold."""

    code = "monitoring.budget_unfit"
    why = "The threshold, studies a year divided by flags a year, must lie between 1 and a million studies."
    cure = "Give --per-day and --budget as they are in practice, such as 10 studies a day and 1 flag a year."


class FlagUnknown(NotFound):
    """There is no flag of that number."""

    code = "monitoring.flag_unknown"
    cure = "List the flags with radfleet flag list."


class FlagResolved(Conflict):
    """This flag is over already."""

    code = "monitoring.flag_resolved"
    why = "A resolved flag is a record: what happens later raises a flag of its own."
    cure = "Show it with radfleet flag show NUMBER; open ones stand in radfleet flag list."


class MuteUnfit(Invalid):
    """A flag cannot be muted for so long."""

    code = "monitoring.mute_unfit"
    why = "A flag is muted for 1 to 720 hours: what may be quiet for longer is resolved with a reason."
    cure = "Give --hours a number from 1 to 720, or use radfleet flag resolve."


class ReasonLacking(Invalid):
    """A decision about a flag needs a reason."""

    code = "monitoring.reason_lacking"
    why = "Who reads the record later must learn why it was decided."
    cure = "Give --reason a sentence."


class ClinicUnwatched(NotFound):
    """There is no such clinic, or nothing of it to explain."""

    code = "monitoring.clinic_unwatched"
    why = "A clinic is watched from its first answered study on."
    cure = "List the clinics with radfleet clinic list, and what is watched with radfleet monitor status."


class StreamUnknown(NotFound):
    """There is no such stream."""

    code = "monitoring.stream_unknown"
    cure = "Show the clinic's streams with radfleet monitor explain CLINIC."


class ContractImpossible(Invalid):
    """No version could keep this contract."""

    code = "monitoring.contract_impossible"
    why = "A contract that nothing can keep calls every clinic harmed; one that bounds nothing calls none."
    cure = "Give --dice above --margin and at most 1, and no more than two readers of the same study reach."


class ContractThin(Unmet):
    """Too few reviews to take a reference Dice from."""

    code = "monitoring.contract_thin"
    why = "A bound out of a few reviews would be their luck."
    cure = "Give --dice with the figure that was agreed, or read more of what radfleet review next lists."


class SourceUnknown(Invalid):
    """A reference Dice comes from nowhere else."""

    code = "monitoring.source_unknown"
    cure = "Give either --dice, or --from with acceptance, fleet or card."


class ContractUnknown(NotFound):
    """No contract holds there."""

    code = "monitoring.contract_unknown"
    why = "Without a contract no review can say that results are worse."
    cure = "Set one with radfleet monitor contract set."


class PolicyUnfit(Invalid):
    """A clinic cannot be watched so."""

    code = "monitoring.policy_unfit"
    why = "Rates lie between 0 and 1; studies a day, flags a year and times are above 0."
    cure = "Give numbers as they are in practice; radfleet monitor policy list shows the present ones."


class SimulationUnfit(Invalid):
    """This cannot be simulated."""

    code = "monitoring.simulation_unfit"
    cure = "Give a folder that you may write, an event before the last day, and no more moved features than watched."


class MeasuredUnfit(Invalid):
    """Nothing can be simulated from this table of measured studies."""

    code = "monitoring.measured_unfit"
    why = "Studies are drawn from its lines as they are: what is missing or no number would be drawn too."
    cure = "Write the table with python -m tests.bench.measured and leave its columns as they are."
