"""Where moto 5.2.1 differs from AWS: one test for each correction in ``scripts/local_aws/patches.py``."""

import contextlib
import json
import re
import uuid
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from scripts.local_aws.deploy import IMAGE_URI
from tests.integration.conftest import LocalCloud, wait_until

NOTHING = "arn:aws:lambda:us-east-1:123456789012:function:summarize"
ECHO = "arn:aws:lambda:us-east-1:123456789012:function:infer"


def unique(name: str) -> str:
    return f"{name}-{uuid.uuid4().hex[:8]}"


def task(function: str, payload: dict[str, Any], **fields: Any) -> dict[str, Any]:
    parameters = {"FunctionName": function, "Payload": payload}
    return {
        "Type": "Task",
        "Resource": "arn:aws:states:::lambda:invoke",
        "Parameters": parameters,
        "End": True,
    } | fields


def map_over(iteration: dict[str, Any], **fields: Any) -> dict[str, Any]:
    processor = {
        "ProcessorConfig": {"Mode": "DISTRIBUTED", "ExecutionType": "STANDARD"},
        "StartAt": next(iter(iteration)),
        "States": iteration,
    }
    return {"Type": "Map", "ItemProcessor": processor, "MaxConcurrency": 2, "ResultPath": None, "End": True} | fields


FAIL_IF_TOLD = {
    "Decide": {
        "Type": "Choice",
        "Choices": [{"Variable": "$.fails", "BooleanEquals": True, "Next": "Refuse"}],
        "Default": "Accept",
    },
    "Refuse": {"Type": "Fail", "Error": "Told", "Cause": "to"},
    "Accept": {"Type": "Pass", "End": True},
}


def manifest(num_ranks: int, **changes: Any) -> list[dict[str, Any]]:
    common = {"run_id": "r", "bucket": "redshift-local", "qualifier": "$LATEST", "deadline_s": 60, **changes}
    return [{"rank": rank, "failure_key": f"failures/{rank:05d}.json", **common} for rank in range(num_ranks)]


def run_ours(cloud: LocalCloud, tasks: list[dict[str, Any]]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Run the repository's own state machine; return the execution and its Map Run."""
    name = unique("run")
    cloud.s3.put_object(Bucket="redshift-local", Key=f"{name}.json", Body=json.dumps(tasks))
    request = {"bucket": "redshift-local", "items_key": f"{name}.json", "run_prefix": f"{name}/"}
    request |= {"max_concurrency": 2}
    execution = cloud.execute(cloud.deployment.state_machine_arn, name, request)
    [run] = cloud.step_functions.list_map_runs(executionArn=execution["executionArn"])["mapRuns"]
    return execution, cloud.step_functions.describe_map_run(mapRunArn=run["mapRunArn"])


# ------------------------------------------------------------------------------------------------ executions


def test_a_state_machine_runs_while_another_execution_of_it_runs(cloud: LocalCloud) -> None:
    machine = cloud.state_machine(unique("nap"), {"Nap": task(ECHO, {"sleep": 0.5})})
    arns = [cloud.step_functions.start_execution(stateMachineArn=machine, name=name)["executionArn"] for name in "ab"]

    assert [cloud.wait(arn)["status"] for arn in arns] == ["SUCCEEDED", "SUCCEEDED"]


def test_executions_without_a_name_are_two(cloud: LocalCloud) -> None:
    machine = cloud.state_machine(unique("pass"), {"Pass": {"Type": "Pass", "End": True}})
    arns = {cloud.step_functions.start_execution(stateMachineArn=machine)["executionArn"] for _ in range(2)}

    assert len(arns) == 2


def test_a_name_used_again_with_another_input_is_refused(cloud: LocalCloud) -> None:
    machine = cloud.state_machine(unique("pass"), {"Pass": {"Type": "Pass", "End": True}})
    cloud.execute(machine, "same", {"n": 1})

    with pytest.raises(cloud.step_functions.exceptions.ExecutionAlreadyExists):
        cloud.step_functions.start_execution(stateMachineArn=machine, name="same", input='{"n": 2}')


def test_map_runs_can_be_listed_from_the_first_moment(cloud: LocalCloud) -> None:
    """A long definition keeps the execution's thread parsing while the call arrives."""
    states = {f"Pass{number}": {"Type": "Pass", "Next": f"Pass{number + 1}"} for number in range(300)}
    states["Pass300"] = {"Type": "Pass", "End": True}
    machine = cloud.state_machine(unique("long"), states)

    arn = cloud.step_functions.start_execution(stateMachineArn=machine, name="first")["executionArn"]

    assert cloud.step_functions.list_map_runs(executionArn=arn)["mapRuns"] == []


def test_times_are_written_as_aws_does(cloud: LocalCloud) -> None:
    times = {"entered.$": "$$.State.EnteredTime", "started.$": "$$.Execution.StartTime"}
    machine = cloud.state_machine(unique("times"), {"Times": {"Type": "Pass", "Parameters": times, "End": True}})

    output = json.loads(cloud.execute(machine, "times", {})["output"])

    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", output["entered"])
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", output["started"])


# ------------------------------------------------------------------------------------------------ maps


@pytest.mark.parametrize(
    ("tolerance", "num_failing", "status"),
    [
        ({}, 0, "SUCCEEDED"),
        ({}, 1, "FAILED"),
        ({"ToleratedFailureCount": 2}, 2, "SUCCEEDED"),
        ({"ToleratedFailureCount": 2}, 3, "FAILED"),
        ({"ToleratedFailurePercentage": 25.0}, 2, "SUCCEEDED"),
        ({"ToleratedFailurePercentage": 25.0}, 3, "FAILED"),
        ({"ToleratedFailurePercentage": 100.0}, 8, "SUCCEEDED"),
        ({"ToleratedFailureCount": 3, "ToleratedFailurePercentage": 25.0}, 2, "SUCCEEDED"),
        ({"ToleratedFailureCount": 3, "ToleratedFailurePercentage": 25.0}, 3, "FAILED"),
        ({"ToleratedFailureCount": 1, "ToleratedFailurePercentage": 50.0}, 2, "FAILED"),
    ],
)
def test_a_map_fails_when_more_iterations_fail_than_it_tolerates(
    cloud: LocalCloud, tolerance: dict[str, float], num_failing: int, status: str
) -> None:
    machine = cloud.state_machine(unique("map"), {"Map": map_over(FAIL_IF_TOLD, **tolerance)})

    execution = cloud.execute(machine, "map", [{"fails": rank < num_failing} for rank in range(8)])

    assert execution["status"] == status
    assert execution.get("error") == (None if status == "SUCCEEDED" else "States.ExceedToleratedFailureThreshold")


def test_a_map_that_failed_can_be_caught_by_its_name(cloud: LocalCloud) -> None:
    catch = [{"ErrorEquals": ["States.ExceedToleratedFailureThreshold"], "Next": "Caught"}]
    states = {"Map": map_over(FAIL_IF_TOLD, Catch=catch), "Caught": {"Type": "Pass", "Result": 1, "End": True}}

    assert cloud.execute(cloud.state_machine(unique("catch"), states), "c", [{"fails": True}])["output"] == "1"


def test_one_thread_runs_more_iterations_than_python_recurses(cloud: LocalCloud) -> None:
    accept = {"Accept": {"Type": "Pass", "Result": 1, "End": True}}
    machine = cloud.state_machine(unique("deep"), {"Map": map_over(accept, MaxConcurrency=1)})

    assert cloud.execute(machine, "deep", [{}] * 1200)["status"] == "SUCCEEDED"
    assert "Exception in thread" not in (cloud.aws.log_dir / "server.log").read_text()


def test_a_map_returns_the_results_in_order(cloud: LocalCloud) -> None:
    iteration = {"Keep": {"Type": "Pass", "End": True}}
    machine = cloud.state_machine(unique("results"), {"Over": map_over(iteration, ItemsPath="$.items", ResultPath="$")})

    execution = cloud.execute(machine, "r", {"items": [3, 1, 2]})

    assert json.loads(execution["output"]) == [3, 1, 2]


@pytest.mark.parametrize("writer", [None, {"Bucket": "redshift-local", "Prefix": "exported"}])
def test_results_that_a_map_gathers_beyond_the_limit_of_a_state_end_the_execution(
    cloud: LocalCloud, writer: dict[str, str] | None
) -> None:
    """Nothing catches it, whatever the Map tolerates; a Map that writes its results to S3 gathers nothing."""
    fields: dict[str, Any] = {"ToleratedFailurePercentage": 100.0, "Next": "Last"}
    fields["Catch"] = [{"ErrorEquals": ["States.ALL"], "ResultPath": None, "Next": "Last"}]
    if writer:
        fields["ResultWriter"] = {"Resource": "arn:aws:states:::s3:putObject", "Parameters": writer}
    cloud.s3.put_object(
        Bucket="redshift-local", Key="failing.json", Body=json.dumps([{"fails": True, "input": "x" * 1000}] * 260)
    )
    fields["ItemReader"] = {
        "Resource": "arn:aws:states:::s3:getObject",
        "ReaderConfig": {"InputType": "JSON"},
        "Parameters": {"Bucket": "redshift-local", "Key": "failing.json"},
    }
    failing = map_over(FAIL_IF_TOLD, **fields)
    del failing["End"]
    machine = cloud.state_machine(unique("limit"), {"Map": failing, "Last": {"Type": "Pass", "End": True}})

    execution = cloud.execute(machine, "limit", {})

    assert execution.get("error") == (None if writer else "States.DataLimitExceeded")
    assert execution["status"] == ("SUCCEEDED" if writer else "FAILED")


def test_what_a_map_writes_goes_where_the_states_input_says(cloud: LocalCloud) -> None:
    execution, run = run_ours(cloud, manifest(2))

    events = cloud.step_functions.get_execution_history(executionArn=execution["executionArn"])["events"]
    prefix = f"{execution['name']}/map/{run['mapRunArn'].rpartition(':')[2]}/"
    written = cloud.s3.list_objects_v2(Bucket="redshift-local", Prefix=prefix)["Contents"]
    assert [entry["Key"] for entry in written] == [f"{prefix}manifest.json"]
    assert "MapStateFailed" not in {event["type"] for event in events}


LIMIT = 256 * 1024


def test_no_execution_is_given_more_than_a_state_may_have(cloud: LocalCloud) -> None:
    machine = cloud.state_machine(unique("input"), {"Only": {"Type": "Pass", "Result": 1, "End": True}})

    def start(size: int) -> str:
        return cloud.execute(machine, unique("sized"), "x" * (size - 2))["status"]

    assert start(LIMIT) == "SUCCEEDED"
    with pytest.raises(ClientError, match="InvalidExecutionInput"):
        start(LIMIT + 1)


def test_a_task_returns_no_more_than_a_state_may_have_whatever_is_selected_of_it(cloud: LocalCloud) -> None:
    states = {"Task": task(ECHO, {"result_mb": 1}, ResultSelector={})}

    execution = cloud.execute(cloud.state_machine(unique("result"), states), "result", {})

    assert (execution["status"], execution["error"]) == ("FAILED", "States.DataLimitExceeded")


def test_an_iteration_is_given_no_more_than_a_state_may_have(cloud: LocalCloud) -> None:
    cloud.s3.put_object(Bucket="redshift-local", Key="large.json", Body=json.dumps(["x" * LIMIT, "y"]))
    reader = {
        "Resource": "arn:aws:states:::s3:getObject",
        "ReaderConfig": {"InputType": "JSON"},
        "Parameters": {"Bucket": "redshift-local", "Key": "large.json"},
    }
    over = map_over({"Only": {"Type": "Pass", "Result": 1, "End": True}}, ItemReader=reader)
    over["ToleratedFailurePercentage"] = 50.0

    execution = cloud.execute(cloud.state_machine(unique("item"), {"Map": over}), "item", {})

    [run] = cloud.step_functions.list_map_runs(executionArn=execution["executionArn"])["mapRuns"]
    counts = cloud.step_functions.describe_map_run(mapRunArn=run["mapRunArn"])["itemCounts"]
    assert (counts["failed"], counts["succeeded"]) == (1, 1)


def test_what_a_branch_makes_of_its_input_is_its_own(cloud: LocalCloud) -> None:
    def branch(number: int) -> dict[str, Any]:
        note = {"Type": "Pass", "Result": number, "ResultPath": "$.shared.own", "End": True}
        return {"StartAt": "Note", "States": {"Note": note}}

    parallel = {"Type": "Parallel", "Branches": [branch(1), branch(2)], "ResultPath": "$.found", "End": True}
    machine = cloud.state_machine(unique("branches"), {"Branches": parallel})

    # Twice: the second execution has the same tree of the definition.
    for _ in range(2):
        ended = cloud.execute(machine, unique("branches"), {"shared": {"list": [1]}})
        found = [{"shared": {"list": [1], "own": number}} for number in (1, 2)]
        assert json.loads(ended["output"]) == {"shared": {"list": [1]}, "found": found}


def test_an_empty_map_succeeds(cloud: LocalCloud) -> None:
    accept = {"Accept": {"Type": "Pass", "End": True}}

    assert (
        cloud.execute(cloud.state_machine(unique("empty"), {"Map": map_over(accept)}), "e", [])["status"] == "SUCCEEDED"
    )


def test_a_map_run_tells_how_many_items_wait_run_and_ended(cloud: LocalCloud, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    nap = task(ECHO, {"until": str(gate)})
    machine = cloud.state_machine(unique("count"), {"Map": map_over({"Nap": nap})})
    arn = cloud.step_functions.start_execution(stateMachineArn=machine, name="n", input=json.dumps([{}] * 6))[
        "executionArn"
    ]
    seen: list[dict[str, int]] = []

    def counts() -> dict[str, int]:
        runs = cloud.step_functions.list_map_runs(executionArn=arn)["mapRuns"]
        seen.append(cloud.step_functions.describe_map_run(mapRunArn=runs[0]["mapRunArn"])["itemCounts"] if runs else {})
        return seen[-1]

    wait_until(lambda: counts().get("running") == 2)
    assert (seen[-1]["pending"], seen[-1]["succeeded"], seen[-1]["total"]) == (4, 0, 6)
    gate.touch()
    wait_until(lambda: counts().get("succeeded") == 6)
    assert (seen[-1]["pending"], seen[-1]["running"], seen[-1]["total"]) == (0, 0, 6)
    assert max(count.get("running", 0) for count in seen) == 2
    [run] = cloud.step_functions.list_map_runs(executionArn=arn)["mapRuns"]
    found = cloud.step_functions.describe_map_run(mapRunArn=run["mapRunArn"])
    # One child execution per item.
    assert found["executionCounts"] == found["itemCounts"]


# ------------------------------------------------------------------------------------------------ our state machine


def test_our_state_machine_runs_over_200_ranks(cloud: LocalCloud) -> None:
    execution, run = run_ours(cloud, manifest(200))

    assert execution["status"] == "SUCCEEDED"
    assert run["status"] == "SUCCEEDED"
    assert (run["itemCounts"]["succeeded"], run["itemCounts"]["total"]) == (200, 200)


def test_a_lost_rank_is_noted_by_the_state_machine(cloud: LocalCloud, failing_infer: None) -> None:
    tasks = manifest(3)
    tasks[1]["raise"] = "no galaxies here"

    execution, run = run_ours(cloud, tasks)

    note = json.loads(cloud.s3.get_object(Bucket="redshift-local", Key="failures/00001.json")["Body"].read())
    assert execution["status"] == "SUCCEEDED"
    assert run["itemCounts"]["failed"] == 1
    assert (note["run_id"], note["rank"], note["error"]) == ("r", 1, "TaskRefusedError")
    assert json.loads(note["cause"])["errorMessage"] == "no galaxies here"


def test_a_run_whose_ranks_are_all_lost_is_summarized(cloud: LocalCloud, failing_infer: None) -> None:
    # Gathered in the state, 40 tasks of 8 kB would have ended the execution before Summarize.
    tasks = [{**task, "raise": "no galaxies here", "rows": "x" * 8000} for task in manifest(40)]

    execution, run = run_ours(cloud, tasks)

    assert (execution["status"], run["itemCounts"]["failed"]) == ("SUCCEEDED", 40)


@pytest.fixture
def failing_infer(cloud: LocalCloud) -> Any:
    """Let the Infer function fail where its task says so."""
    command = "tests.integration.functions.nothing.handler"
    cloud.functions.update_function_configuration(FunctionName="infer", ImageConfig={"Command": [command]})
    yield
    command = "tests.integration.functions.echo.handler"
    cloud.functions.update_function_configuration(FunctionName="infer", ImageConfig={"Command": [command]})


def test_a_retry_says_which_attempt_it_is(cloud: LocalCloud) -> None:
    """The function refuses the first two attempts of its task and returns the third."""
    parameters = {"FunctionName": "stubborn", "Payload": {"attempt.$": "$$.State.RetryCount"}}
    retry = [{"ErrorEquals": ["TooEarlyError"], "IntervalSeconds": 1, "BackoffRate": 1.0, "MaxAttempts": 3}]
    retry[0] |= {"MaxDelaySeconds": 2, "JitterStrategy": "FULL"}
    cloud.functions.create_function(
        FunctionName="stubborn",
        Role="arn:aws:iam::123456789012:role/redshift-local",
        PackageType="Image",
        Code={"ImageUri": "any"},
        ImageConfig={"Command": ["tests.integration.functions.stubborn.handler"]},
    )
    state = task("stubborn", {}, Parameters=parameters, Retry=retry, OutputPath="$.Payload")

    execution = cloud.execute(cloud.state_machine(unique("retry"), {"Try": state}), "r", {})

    assert json.loads(execution["output"]) == {"attempt": 2}


@pytest.mark.parametrize(
    ("event", "error"), [({"sleep": 30}, "Sandbox.Timedout"), ({"kill": True}, "Runtime.ExitError")]
)
def test_lambdas_own_errors_keep_their_names(cloud: LocalCloud, event: dict[str, Any], error: str) -> None:
    catch = [{"ErrorEquals": [error], "Next": "Caught"}]
    states = {"Try": task(ECHO, event, Catch=catch), "Caught": {"Type": "Pass", "End": True}}

    execution = cloud.execute(cloud.state_machine(unique("catch"), states), "c", {})

    assert json.loads(execution["output"])["Error"] == error


def test_a_function_that_does_not_exist_has_lambdas_error(cloud: LocalCloud) -> None:
    machine = cloud.state_machine(unique("none"), {"Try": task("nobody", {})})

    assert cloud.execute(machine, "n", {})["error"] == "Lambda.ResourceNotFoundException"


# ------------------------------------------------------------------------------------------------ the rest


def test_a_bucket_policy_that_denies_plain_http_denies_nothing_here(cloud: LocalCloud) -> None:
    cloud.s3.create_bucket(Bucket="tls-only")
    condition = {"Bool": {"aws:SecureTransport": "false"}}
    deny = {"Effect": "Deny", "Principal": "*", "Action": "s3:*", "Resource": ["arn:aws:s3:::tls-only/*"]}
    policy = {"Version": "2012-10-17", "Statement": [deny | {"Condition": condition}]}
    cloud.s3.put_bucket_policy(Bucket="tls-only", Policy=json.dumps(policy))

    cloud.s3.put_object(Bucket="tls-only", Key="k", Body=b"x")

    assert cloud.s3.get_object(Bucket="tls-only", Key="k")["Body"].read() == b"x"


def test_the_command_of_a_function_can_be_changed(cloud: LocalCloud, failing_infer: None) -> None:
    configuration = cloud.functions.get_function_configuration(FunctionName="infer")

    command = configuration["ImageConfigResponse"]["ImageConfig"]["Command"]
    assert command == ["tests.integration.functions.nothing.handler"]


@pytest.mark.parametrize(("definition", "result"), [('{"StartAt": "A", "States": {}', "FAIL"), ("ours", "OK")])
def test_a_definition_can_be_validated(cloud: LocalCloud, definition: str, result: str) -> None:
    if definition == "ours":
        machine = cloud.deployment.state_machine_arn
        definition = cloud.step_functions.describe_state_machine(stateMachineArn=machine)["definition"]

    answer = cloud.step_functions.validate_state_machine_definition(definition=definition)

    assert (answer["result"], answer["truncated"]) == (result, False)
    codes = [(problem["severity"], problem["code"]) for problem in answer["diagnostics"]]
    assert codes == ([("ERROR", "SCHEMA_VALIDATION_FAILED")] if result == "FAIL" else [])


def test_versions_can_be_listed_the_newest_first(cloud: LocalCloud) -> None:
    machine = cloud.state_machine(unique("versions"), {"Pass": {"Type": "Pass", "End": True}})
    assert cloud.step_functions.list_state_machine_versions(stateMachineArn=machine)["stateMachineVersions"] == []
    for number in (1, 2):
        definition = json.dumps({"StartAt": "P", "States": {"P": {"Type": "Pass", "Result": number, "End": True}}})
        cloud.step_functions.update_state_machine(stateMachineArn=machine, definition=definition, publish=True)

    found = cloud.step_functions.list_state_machine_versions(stateMachineArn=machine)["stateMachineVersions"]

    assert [one["stateMachineVersionArn"] for one in found] == [f"{machine}:2", f"{machine}:1"]
    assert found[0]["creationDate"] >= found[1]["creationDate"]


def test_whoever_has_the_key_of_the_server_may_do_everything(cloud: LocalCloud) -> None:
    with contextlib.closing(boto3.client("iam", **cloud.aws.credentials)) as iam:
        answer = iam.simulate_principal_policy(
            PolicySourceArn="arn:aws:iam::123456789012:user/me", ActionNames=["s3:GetObject", "states:StartExecution"]
        )

    found = [(one["EvalActionName"], one["EvalDecision"]) for one in answer["EvaluationResults"]]
    assert found == [("s3:GetObject", "allowed"), ("states:StartExecution", "allowed")]
    assert not answer["IsTruncated"]


def test_the_logging_of_a_function_is_remembered(cloud: LocalCloud) -> None:
    name = unique("logging")
    made = cloud.functions.create_function(
        FunctionName=name,
        Role="arn:aws:iam::123456789012:role/redshift-local",
        PackageType="Image",
        Code={"ImageUri": IMAGE_URI},
        LoggingConfig={"LogFormat": "JSON", "LogGroup": "/aws/lambda/own"},
    )
    cloud.functions.update_function_configuration(FunctionName=name, LoggingConfig={"LogFormat": "Text"})
    cloud.functions.update_function_configuration(FunctionName=name, EphemeralStorage={"Size": 700})
    cloud.functions.update_function_configuration(FunctionName=name, MemorySize=300)

    assert made["LoggingConfig"]["LogGroup"] == "/aws/lambda/own"
    found = cloud.functions.get_function_configuration(FunctionName=name)
    assert found["LoggingConfig"] == {"LogFormat": "Text"}
    assert (found["EphemeralStorage"], found["MemorySize"]) == ({"Size": 700}, 300)
    assert "LoggingConfig" not in cloud.functions.get_function_configuration(FunctionName="infer")


@pytest.mark.parametrize(("service", "call"), [("batch", "describe_job_queues"), ("ec2", "describe_vpcs")])
def test_services_left_out_at_start_answer_when_called(cloud: LocalCloud, service: str, call: str) -> None:
    with contextlib.closing(boto3.client(service, **cloud.aws.credentials)) as client:
        assert getattr(client, call)()["ResponseMetadata"]["HTTPStatusCode"] == 200
