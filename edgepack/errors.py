"""The error tree. One class per remedy; each has an exit code, and every error has a hint.

EdgepackError                 1   something else went wrong
├── ConfigError               2   an option, a TOML file or a target profile is wrong
├── ModelError                2   the model given cannot be used
├── DataError                 2   the samples or labels given cannot be used
│   └── RecipeError           2   nothing says how samples become the model's inputs
├── BundleError               2   the file is not a bundle, or is of a format this version does not read
├── ToolchainError            3   an engine or tool is not installed, or has the wrong version
├── CompileError              4   an engine refused the model, crashed, or ran out of time
│   └── ChildError            4   a child process died; carries its log and how it ended
├── VerificationError         5   outputs are further from the golden vectors than the tolerance allows
├── GateError                 5   the accuracy drop asked for was not reached
├── IntegrityError            5   the contents of a bundle do not match its manifest
├── RemoteError               1   another machine could not be reached, or what it said cannot be read
├── TrustError                5   a bundle's signature, or the policy of this device, does not let it in
└── StorageError              1   the disk is full or a file cannot be written
"""

from __future__ import annotations


class EdgepackError(Exception):
    """Base of every error that a user is meant to see.

    ``hint`` is the remedy, in one sentence or command.
    """

    exit_code = 1
    default_hint = "run again with --debug for the traceback"

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint or self.default_hint


class ConfigError(EdgepackError):
    """An option, a TOML file or a target profile is wrong."""

    exit_code = 2
    default_hint = "see 'edgepack COMMAND --help' for what is allowed"


class ModelError(EdgepackError):
    """The model given cannot be used."""

    exit_code = 2
    default_hint = "check the file with 'edgepack inspect MODEL', or export it again"


class DataError(EdgepackError):
    """The samples or labels given cannot be used."""

    exit_code = 2
    default_hint = "give a folder of pictures, a .npz with arrays named like the model's inputs, or module:callable"


class RecipeError(DataError):
    """Nothing says how samples become the model's inputs."""

    default_hint = "add --recipe NAME: 'edgepack recipes suggest MODEL.onnx' proposes one, 'edgepack recipes' lists all"


class BundleError(EdgepackError):
    """The file is not a bundle, or is of a format this version does not read."""

    exit_code = 2
    default_hint = "give a .edgepack file made by 'edgepack build' or 'edgepack pack'"


class ToolchainError(EdgepackError):
    """An engine or tool is not installed, or has the wrong version."""

    exit_code = 3
    default_hint = "run 'edgepack doctor' to see what to install"


class CompileError(EdgepackError):
    """An engine refused the model, crashed, or ran out of time."""

    exit_code = 4
    default_hint = "the engine's messages are in the log; try --precision fp32 or another target"


class ChildError(CompileError):
    """A child process died instead of answering; the run goes on without it."""

    def __init__(self, message: str, *, log: str = "", hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.log = log


class VerificationError(EdgepackError):
    """Outputs are further from the golden vectors than the tolerance allows."""

    exit_code = 5
    default_hint = "see which output differs with 'edgepack verify BUNDLE --json'"


class GateError(EdgepackError):
    """The accuracy drop asked for was not reached."""

    exit_code = 5
    default_hint = "give more calibration samples, or allow a larger --max-drop"


class IntegrityError(EdgepackError):
    """The contents of a bundle do not match its manifest."""

    exit_code = 5
    default_hint = "the file was damaged or changed after packing: copy or build it again"


class TrustError(EdgepackError):
    """A bundle's signature, or the policy of this device, does not let it in."""

    exit_code = 5
    default_hint = (
        "see the policy of this device with 'edgepack policy', and who signed a bundle with 'edgepack policy BUNDLE'"
    )


class RemoteError(EdgepackError):
    """Another machine could not be reached, or what it said cannot be read."""

    exit_code = 1
    default_hint = "see whether 'ssh USER@HOST true' works, then run again: what has been sent is not sent again"


class StorageError(EdgepackError):
    """The disk is full or a file cannot be written."""

    exit_code = 1
    default_hint = "free some disk space or choose another folder, then run again"
