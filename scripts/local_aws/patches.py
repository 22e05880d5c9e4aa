"""Corrections of moto 5.2.1, each in a function with its reason.

A wrong answer has a test in ``test_local_aws_patches.py`` and its correction can go when the test passes without it. A
slow one states what it saves.
"""

import copy
import functools
import json
import threading
import uuid
from collections.abc import Callable
from datetime import datetime
from typing import Any

import boto3
from botocore.config import Config
from moto import backends
from moto.awslambda.models import ImageConfig, LambdaFunction, LambdaStorage
from moto.core.responses import ActionResult
from moto.iam.access_control import PermissionResult
from moto.s3.models import FakeBucket
from moto.stepfunctions.models import StateMachine
from moto.stepfunctions.parser.api import HistoryEventType
from moto.stepfunctions.parser.asl.component.common.error_name.failure_event import FailureEvent, FailureEventException
from moto.stepfunctions.parser.asl.component.common.error_name.states_error_name import StatesErrorName
from moto.stepfunctions.parser.asl.component.common.error_name.states_error_name_type import StatesErrorNameType
from moto.stepfunctions.parser.asl.component.common.path import result_path
from moto.stepfunctions.parser.asl.component.state import state as common_state
from moto.stepfunctions.parser.asl.component.state.exec.state_map.iteration import distributed_iteration_component
from moto.stepfunctions.parser.asl.component.state.exec.state_map.iteration.itemprocessor import map_run_record
from moto.stepfunctions.parser.asl.component.state.exec.state_map.iteration.itemprocessor.distributed_item_processor_worker import (  # noqa: E501
    DistributedItemProcessorWorker,
)
from moto.stepfunctions.parser.asl.component.state.exec.state_map.iteration.job import Job, JobPool
from moto.stepfunctions.parser.asl.component.state.exec.state_task import lambda_eval_utils
from moto.stepfunctions.parser.asl.component.state.exec.state_task.service.state_task_service_aws_sdk import (
    StateTaskServiceAwsSdk,
)
from moto.stepfunctions.parser.asl.eval.environment import Environment
from moto.stepfunctions.parser.asl.parse.asl_parser import AmazonStateLanguageParser, ASLParserException
from moto.stepfunctions.parser.asl.utils import boto_client, json_path
from moto.stepfunctions.parser.backend.execution import Execution
from moto.stepfunctions.parser.backend.execution_worker import ExecutionWorker
from moto.stepfunctions.parser.models import StepFunctionsParserBackend
from moto.stepfunctions.responses import StepFunctionResponse

MAX_MAP_THREADS = 256
"""Iterations a Map without MaxConcurrency runs at the same time; Lambda's workers limit it further."""


def apply_all() -> None:
    """Apply every correction; once, before the first request."""
    # Wrong answers.
    start_any_number_of_executions()
    ignore_bucket_policies()
    enforce_tolerated_failures()
    iterate_without_recursion()
    count_map_items()
    write_timestamps_as_aws()
    answer_before_the_first_state()
    write_objects_as_json()
    update_image_config()
    keep_logging_config()
    number_every_version_once()
    answer_terraform()
    # Slow, with the same answers.
    reuse_interpreter_clients()
    reuse_json_paths()
    list_modules_once()


def _original(owner: Any, name: str) -> Any:
    return getattr(owner, name)


def _replace(owner: Any, name: str, replacement: object) -> None:
    # Another version of moto may have renamed what is corrected here: fail at start, not in a run.
    assert hasattr(owner, name), f"moto has no {owner.__name__}.{name} any more"
    setattr(owner, name, replacement)


def _add(owner: Any, name: str, addition: object) -> None:
    assert not hasattr(owner, name), f"moto has a {owner.__name__}.{name} of its own now"
    setattr(owner, name, addition)


# ---------------------------------------------------------------------------------------------------- wrong answers


def start_any_number_of_executions() -> None:
    """Let a state machine be started again, and by two clients at once.

    StartExecution deep-copies the state machine with its executions, and a running one holds locks that cannot be
    copied. A shallow copy protects as well: an update replaces attributes. Without a name, every execution is called
    None and the second is taken for the first.
    """
    start = _original(StepFunctionsParserBackend, "start_execution")
    lock = threading.Lock()

    def start_execution(self: Any, state_machine_arn: str, name: str | None = None, *args: Any, **kwargs: Any) -> Any:
        with lock:
            return start(self, state_machine_arn, name or str(uuid.uuid4()), *args, **kwargs)

    def snapshot(self: StateMachine, _memo: dict[int, Any]) -> StateMachine:
        return copy.copy(self)

    _add(StateMachine, "__deepcopy__", snapshot)
    _replace(StepFunctionsParserBackend, "start_execution", start_execution)


def ignore_bucket_policies() -> None:
    """Take no bucket policy into account.

    Conditions are not evaluated, so that a policy that denies plain HTTP denies everything.
    """

    def get_permission(_self: FakeBucket, _action: str, _resource: str) -> Any:
        return PermissionResult.NEUTRAL

    _replace(FakeBucket, "get_permission", get_permission)


def enforce_tolerated_failures() -> None:
    """Fail a Distributed Map when more iterations fail than it tolerates.

    A failed iteration becomes null and the Map succeeds, whatever ToleratedFailureCount and -Percentage say.
    """

    def map_run(self: Any, env: Environment, eval_input: Any) -> None:
        items = env.stack.pop()
        record = eval_input.map_run_record
        record.num_items = len(items)
        jobs = _TolerantJobPool(self._get_iteration_program(), items, env=env, record=record)
        for _ in range(min(record.max_concurrency or MAX_MAP_THREADS, len(items))):
            self._launch_worker(env=env, eval_input=eval_input, job_pool=jobs)
        jobs.await_jobs()
        exception = jobs.get_worker_exception()
        if exception is not None:
            raise exception
        env.stack.append([job.job_output for job in jobs.get_closed_jobs()])

    _replace(distributed_iteration_component.DistributedIterationComponent, "_map_run", map_run)


class _TolerantJobPool(JobPool):
    """The iterations of one Map Run, handed out until too many have failed."""

    def __init__(self, program: Any, items: list[Any], *, env: Environment, record: Any) -> None:
        super().__init__(job_program=program, job_inputs=items)
        self._env = env
        self._record = record

    def close_job(self, job: Job) -> None:
        """Count a finished iteration and stop the Map Run if it was one failure too many."""
        super().close_job(job)
        num_failed = self._record.item_counter.failed.get() + self._record.item_counter.timed_out.get()
        if _exceeds(num_failed, self._jobs_number, self._record):
            with self._mutex:
                self._worker_exception = self._worker_exception or _threshold_exceeded(self._env)
                self._notify_on_termination()


def _exceeds(num_failed: int, num_items: int, record: Any) -> bool:
    """Return whether the Map Run fails. A limit that is absent reads as 0 and counts only if both are."""
    count, percentage = record.tolerated_failure_count, record.tolerated_failure_percentage
    if not count and not percentage:
        return num_failed > 0
    return bool((count and num_failed > count) or (percentage and 100 * num_failed > percentage * num_items))


def _threshold_exceeded(env: Environment) -> FailureEventException:
    error = StatesErrorNameType.StatesExceedToleratedFailureThreshold
    details: Any = {"error": error.to_name(), "cause": "The specified tolerated failure threshold was exceeded"}
    event_details: Any = {"executionFailedEventDetails": details}
    return FailureEventException(
        FailureEvent(
            env=env,
            error_name=StatesErrorName(typ=error),
            event_type=HistoryEventType.MapRunFailed,
            event_details=event_details,
        )
    )


def iterate_without_recursion() -> None:
    """Run any number of iterations per thread.

    Each iteration calls the next one, so that the thousandth of a thread meets Python's recursion limit.
    """

    def eval_pool(self: Any, job: Job | None, worker_frame: Environment) -> None:
        while job is not None:
            frame = worker_frame.open_inner_frame()
            self._eval_job(env=frame, job=job)
            worker_frame.delete_frame(frame)
            is_last = isinstance(job.job_output, Exception) or self.stopped()
            finished, job = job, None if is_last else self._job_pool.next_job()
            self._job_pool.close_job(finished)

    _replace(DistributedItemProcessorWorker, "_eval_pool", eval_pool)


def count_map_items() -> None:
    """Tell in DescribeMapRun how many items there are and how many wait.

    ``total`` counts the iterations begun, ``pending`` is always 0 and failed child executions count as running.
    """
    describe = _original(map_run_record.MapRunRecord, "describe")

    def described(self: Any) -> Any:
        answer = describe(self)
        counts = answer["itemCounts"]
        ended = sum(counts[key] for key in ("succeeded", "failed", "timedOut", "aborted"))
        counts["total"] = getattr(self, "num_items", 0)
        counts["pending"] = max(0, counts["total"] - ended - counts["running"])
        # One child execution per item.
        answer["executionCounts"] = counts
        return answer

    _replace(map_run_record.MapRunRecord, "describe", described)


def write_timestamps_as_aws() -> None:
    """Give EnteredTime as AWS writes it, 2026-01-31T12:00:00.123Z, and StartTime as text.

    EnteredTime has microseconds and an offset; StartTime is no JSON value and fails the state that reads it.
    """
    state_data = _original(common_state, "StateData")
    start_details = _original(Execution, "get_start_execution_details")

    def with_aws_time(EnteredTime: str, Name: str) -> Any:  # noqa: N803 -- moto's names
        return state_data(EnteredTime=_aws_time(datetime.fromisoformat(EnteredTime)), Name=Name)

    def get_start_execution_details(self: Any) -> Any:
        details = start_details(self)
        details.start_time = _aws_time(details.start_time)
        return details

    _replace(common_state, "StateData", with_aws_time)
    _replace(Execution, "get_start_execution_details", get_start_execution_details)


def _aws_time(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def answer_before_the_first_state() -> None:
    """Let ListMapRuns, DescribeMapRun and StopExecution be called right after StartExecution.

    They read what the execution's thread creates some milliseconds later, after parsing the definition.
    """
    create = _original(ExecutionWorker, "_get_evaluation_environment")
    start = _original(ExecutionWorker, "start")

    def get_environment(self: ExecutionWorker) -> Any:
        return self.env or create(self)

    def started(self: ExecutionWorker) -> None:
        self.env = create(self)
        start(self)

    _replace(ExecutionWorker, "_get_evaluation_environment", get_environment)
    _replace(ExecutionWorker, "start", started)


def write_objects_as_json() -> None:
    """Let an SDK integration take an object where the service takes bytes: Step Functions sends it as JSON.

    moto hands the object to boto3, which refuses it; RecordFailure could not write its note.
    """

    def normalise_parameters(self: Any, parameters: dict[str, Any], *_: Any, **__: Any) -> None:
        client = boto_client.boto_client_for(region="us-east-1", service=self._get_boto_service_name())
        operation = client.meta.method_to_api_mapping[self._get_boto_service_action()]
        for name, shape in client.meta.service_model.operation_model(operation).input_shape.members.items():
            if shape.type_name == "blob" and not isinstance(parameters.get(name, b""), bytes):
                parameters[name] = json.dumps(parameters[name], separators=(",", ":"), ensure_ascii=False).encode()

    _replace(StateTaskServiceAwsSdk, "_normalise_parameters", normalise_parameters)


def update_image_config() -> None:
    """Let UpdateFunctionConfiguration change the command and the ephemeral storage; both are ignored."""
    update = _original(LambdaFunction, "update_configuration")

    def update_configuration(self: LambdaFunction, config_updates: dict[str, Any]) -> dict[str, Any]:
        if config_updates.get("ImageConfig"):
            self.image_config = ImageConfig(config_updates["ImageConfig"])
        if config_updates.get("EphemeralStorage"):
            self.ephemeral_storage = config_updates["EphemeralStorage"]["Size"]
        answer: dict[str, Any] = update(self, config_updates)
        return answer

    _replace(LambdaFunction, "update_configuration", update_configuration)


def keep_logging_config() -> None:
    """Return a function's LoggingConfig, which is forgotten: every plan of Terraform would add it again."""
    init = _original(LambdaFunction, "__init__")
    update = _original(LambdaFunction, "update_configuration")
    describe = _original(LambdaFunction, "get_configuration")

    def __init__(self: LambdaFunction, *args: Any, **kwargs: Any) -> None:  # noqa: N807 -- replaces this method
        init(self, *args, **kwargs)
        spec: dict[str, Any] = kwargs.get("spec") or (args[1] if len(args) > 1 else {})
        vars(self)["logging_config"] = spec.get("LoggingConfig")

    def update_configuration(self: LambdaFunction, config_updates: dict[str, Any]) -> dict[str, Any]:
        if config_updates.get("LoggingConfig"):
            vars(self)["logging_config"] = config_updates["LoggingConfig"]
        answer: dict[str, Any] = update(self, config_updates)
        return answer

    def get_configuration(self: LambdaFunction, on_create: bool = False) -> dict[str, Any]:
        logging_config = vars(self).get("logging_config")
        found = {"LoggingConfig": logging_config} if logging_config else {}
        return {**describe(self, on_create), **found}

    _replace(LambdaFunction, "__init__", __init__)
    _replace(LambdaFunction, "update_configuration", update_configuration)
    _replace(LambdaFunction, "get_configuration", get_configuration)


def number_every_version_once() -> None:
    """Give a new version of a function a number of its own, whatever was deleted.

    The number is that of the versions left plus one, which another may have; and when the newest was deleted, an older
    one with other settings is returned as if it were what is published.
    """
    publish = _original(LambdaStorage, "publish_version")

    def publish_version(self: LambdaStorage, name_or_arn: str, description: str = "") -> Any:
        function = self.get_function_by_name_or_arn_forbid_qualifier(name_or_arn)
        versions = self._functions[function.function_name]["versions"]
        num_published = vars(function).get("num_published", 0)
        if not versions or versions[-1].version != num_published:
            function.code_or_config_updated = True
        num_before = len(versions)
        version = publish(self, name_or_arn, description)
        if len(versions) > num_before:
            vars(function)["num_published"] = num_published + 1
            function.code_or_config_updated = False
            version.set_version(num_published + 1)
            self._arns[version.function_arn] = version
        return version

    _replace(LambdaStorage, "publish_version", publish_version)


def answer_terraform() -> None:
    """Answer the two calls of Terraform's provider that moto lacks and the provider retries for minutes."""

    def validate_state_machine_definition(self: Any) -> ActionResult:
        try:
            AmazonStateLanguageParser.parse(self._get_param("definition"))
        except (ASLParserException, ValueError) as error:
            problem = {"severity": "ERROR", "code": "SCHEMA_VALIDATION_FAILED", "message": str(error)}
            return ActionResult({"result": "FAIL", "diagnostics": [problem], "truncated": False})
        return ActionResult({"result": "OK", "diagnostics": [], "truncated": False})

    def list_state_machine_versions(self: Any) -> ActionResult:
        state_machine = self.stepfunction_backend.describe_state_machine(self._get_param("stateMachineArn"))
        newest_first = reversed(list(state_machine.versions.values()))
        versions = [{"stateMachineVersionArn": v.arn, "creationDate": v.creation_date} for v in newest_first]
        return ActionResult({"stateMachineVersions": versions})

    _add(StepFunctionResponse, "validate_state_machine_definition", validate_state_machine_definition)
    _add(StepFunctionResponse, "list_state_machine_versions", list_state_machine_versions)


# ---------------------------------------------------------------------------------------------------- slow


def invoke_lambda_directly(invoke: Callable[..., dict[str, Any]]) -> None:
    """Run the Lambda tasks of a state machine by a call; boto3 and HTTP to ourselves cost more than the invocation."""
    _replace(lambda_eval_utils, "_invoke_lambda_function", invoke)


def reuse_interpreter_clients() -> None:
    """Make one boto3 client per service instead of one per task, which takes longer than the task."""
    _replace(boto_client, "boto3", _ClientCache())


class _ClientCache:
    """Stands in for boto3 inside the interpreter."""

    def __init__(self) -> None:
        self._clients: dict[tuple[str, str], Any] = {}
        self._lock = threading.Lock()

    def client(self, *, service_name: str, region_name: str, endpoint_url: str, config: Config, **_: str) -> Any:
        """Return the client of a service and region, with the server's key from the environment, not moto's."""
        with self._lock:
            if (service_name, region_name) not in self._clients:
                self._clients[service_name, region_name] = boto3.client(
                    service_name,
                    region_name=region_name,
                    # By address, boto3 puts the bucket into the path; bucket.localhost is not found everywhere.
                    endpoint_url=endpoint_url.replace("localhost", "127.0.0.1"),
                    config=config.merge(Config(max_pool_connections=MAX_MAP_THREADS)),
                )
            return self._clients[service_name, region_name]


def reuse_json_paths() -> None:
    """Parse every JSONPath once instead of at every evaluation: an empty rank takes 4.5 ms instead of 8.6."""
    for module in (json_path, result_path):
        _replace(module, "parse", functools.lru_cache(maxsize=4096)(_original(module, "parse")))


def list_modules_once() -> None:
    """Read moto's own folder once instead of at every request: two fifths of the time of a small GET."""
    modules = frozenset(_original(backends, "list_of_moto_modules")())
    _replace(backends, "list_of_moto_modules", lambda: modules)
