"""Calls that the policies are judged by and the local AWS never sees: no test makes them, or no role may."""

from scripts.local_aws.calls import STATES
from tests.iam import ACCOUNT, OPERATOR, REGION, Call


def unseen_of_roles() -> list[Call]:
    """Return what AWS itself asks for in the name of a role, and what no run of the tests needs."""
    bucket = f"arn:aws:s3:::redshift-inference-{ACCOUNT}-{REGION}"
    machine = f"arn:aws:states:{REGION}:{ACCOUNT}"
    stages = [f"redshift-inference-{stage}" for stage in ("initialize", "infer", "summarize")]
    stream = f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:/aws/lambda/{{}}:log-stream:2026/01/31/[$LATEST]0"
    result = f"{bucket}/runs/r/map/0f8e/SUCCEEDED_0.json"
    return [
        # https://docs.aws.amazon.com/lambda/latest/dg/lambda-intro-execution-role.html
        *(Call(name, f"logs:{verb}", stream.format(name)) for name in stages for verb in LOG_CALLS),
        *(Call(name, f"xray:{verb}", "*") for name in stages for verb in TRACE_CALLS),
        # https://docs.aws.amazon.com/step-functions/latest/dg/iam-policies-eg-dist-map.html
        Call(STATES, "states:StartExecution", f"{machine}:stateMachine:redshift-inference"),
        Call(STATES, "states:DescribeExecution", f"{machine}:execution:redshift-inference/InferRanks:0f8e"),
        Call(STATES, "states:StopExecution", f"{machine}:execution:redshift-inference/InferRanks:0f8e"),
        Call(STATES, "states:RedriveExecution", f"{machine}:execution:redshift-inference/InferRanks:0f8e"),
        # https://docs.aws.amazon.com/step-functions/latest/dg/input-output-resultwriter.html
        *(Call(STATES, f"s3:{verb}", result) for verb in ("PutObject", "GetObject", "AbortMultipartUpload")),
        Call(STATES, "s3:ListMultipartUploadParts", result),
        # https://docs.aws.amazon.com/step-functions/latest/dg/cw-logs.html, xray-iam.html
        *(Call(STATES, f"logs:{verb}", "*") for verb in ("CreateLogDelivery", "DescribeLogGroups")),
        *(Call(STATES, f"xray:{verb}", "*") for verb in TRACE_CALLS),
        # Ranks that can connect neither directly nor by the server: tests/integration/test_fmi_networks.py.
        *(Call(stages[1], f"s3:{verb}", f"{bucket}/runs/r/fmi/0-1/0") for verb in ("PutObject", "GetObject")),
        Call(stages[1], "s3:ListBucket", bucket, (("s3:prefix", "runs/r/fmi/0-1/"),)),
    ]


LOG_CALLS = ("CreateLogStream", "PutLogEvents")
TRACE_CALLS = ("PutTraceSegments", "PutTelemetryRecords")


def forbidden() -> list[Call]:
    """Return what a role that was taken over must not be able to do."""
    bucket = f"arn:aws:s3:::redshift-inference-{ACCOUNT}-{REGION}"
    initialize, infer, summarize = (f"redshift-inference-{stage}" for stage in ("initialize", "infer", "summarize"))
    every = (initialize, infer, summarize, STATES)
    return [
        # A dataset named like a result, which only the Deny protects.
        *(Call(role, "s3:PutObject", f"{bucket}/datasets/a/ranks/0.json") for role in every),
        Call(initialize, "s3:PutObject", f"{bucket}/datasets/a/manifest.json"),
        Call(summarize, "s3:PutObject", f"{bucket}/datasets/a/summary.json"),
        Call(STATES, "s3:PutObject", f"{bucket}/datasets/a/failures/0.json"),
        *(Call(role, "s3:DeleteObject", f"{bucket}/runs/r/summary.json") for role in every),
        *(Call(role, "s3:ListBucket", bucket) for role in every),
        *(Call(role, "s3:ListBucket", bucket, (("s3:prefix", ""),)) for role in every),
        *(Call(role, "s3:GetObject", "arn:aws:s3:::another/datasets/a/0.safetensors") for role in every),
        *(Call(role, "iam:PassRole", f"arn:aws:iam::{ACCOUNT}:role/admin") for role in every),
        *(Call(role, "secretsmanager:GetSecretValue", "*") for role in every),
        Call(initialize, "s3:PutObject", f"{bucket}/runs/r/summary.json"),
        Call(infer, "s3:PutObject", f"{bucket}/runs/r/summary.json"),
        Call(infer, "s3:PutObject", f"{bucket}/runs/r/manifest.json"),
        Call(infer, "s3:GetObject", f"{bucket}/runs/r/predictions/00000.npz"),
        Call(summarize, "s3:PutObject", f"{bucket}/runs/r/ranks/00000.json"),
        Call(summarize, "s3:GetObject", f"{bucket}/runs/r/predictions/00000.npz"),
        Call(summarize, "s3:GetObject", f"{bucket}/datasets/a/0.safetensors"),
        *(Call(role, "lambda:InvokeFunction", function("infer")) for role in every[:3]),
        Call(STATES, "lambda:InvokeFunction", f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:another"),
        Call(STATES, "states:StartExecution", f"arn:aws:states:{REGION}:{ACCOUNT}:stateMachine:another"),
    ]


def unseen_of_operator() -> list[Call]:
    """Return what the local AWS is not asked for: a push, an alarm by mail, the end of a run under way."""
    here = f"{REGION}:{ACCOUNT}"
    repository = f"arn:aws:ecr:{here}:repository/redshift-inference"
    # https://docs.aws.amazon.com/AmazonECR/latest/userguide/image-push-iam.html
    pushed = (
        "BatchCheckLayerAvailability",
        "InitiateLayerUpload",
        "UploadLayerPart",
        "CompleteLayerUpload",
        "PutImage",
    )
    calls = [
        ("ecr:GetAuthorizationToken", "*"),
        *((f"ecr:{verb}", repository) for verb in pushed),
        ("sns:CreateTopic", f"arn:aws:sns:{here}:redshift-inference-alarms"),
        ("servicequotas:GetServiceQuota", "*"),
        ("states:StopExecution", f"arn:aws:states:{here}:execution:redshift-inference:run"),
        ("states:StopExecution", f"arn:aws:states:{here}:execution:redshift-inference/InferRanks:0f8e"),
        ("states:ListExecutions", f"arn:aws:states:{here}:mapRun:redshift-inference/InferRanks:0f8e"),
        ("lambda:InvokeFunction", function("summarize")),
    ]
    return [Call(OPERATOR, *call) for call in calls]


def unseen_of_rendezvous() -> list[Call]:
    """Return what an operator asks for a rendezvous: the first of its kind in an account, and a record of one's own."""
    role = f"arn:aws:iam::{ACCOUNT}:role/aws-service-role/ecs.amazonaws.com/AWSServiceRoleForECS"
    zone = "arn:aws:route53:::hostedzone/Z0"
    return [
        Call(OPERATOR, "iam:CreateServiceLinkedRole", role, (("iam:AWSServiceName", "ecs.amazonaws.com"),)),
        *(Call(OPERATOR, f"route53:{verb}", zone) for verb in ("ChangeResourceRecordSets", "GetHostedZone")),
        Call(OPERATOR, "route53:GetChange", "arn:aws:route53:::change/C0"),
    ]


def function(stage: str) -> str:
    return f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:redshift-inference-{stage}"
