# One private bucket for datasets and results, and optionally a look at one that is already there.

resource "aws_s3_bucket" "this" {
  # checkov:skip=CKV_AWS_145:SSE-S3 encrypts at rest; a KMS key would cost while idle and per request of every rank
  # checkov:skip=CKV_AWS_18:access logs cost more than the runs; CloudTrail's data events can be turned on per account
  # checkov:skip=CKV_AWS_144:results can be computed again from the dataset; a copy in another region would double the storage
  # checkov:skip=CKV2_AWS_62:nothing waits for events of this bucket; the state machine knows what it wrote
  bucket = var.bucket_name
}

resource "aws_s3_bucket_ownership_controls" "this" {
  bucket = aws_s3_bucket.this.id

  rule {
    object_ownership = "BucketOwnerEnforced"
  }
}

resource "aws_s3_bucket_public_access_block" "this" {
  bucket                  = aws_s3_bucket.this.id
  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

resource "aws_s3_bucket_versioning" "this" {
  bucket = aws_s3_bucket.this.id

  versioning_configuration {
    status = "Enabled"
  }
}

resource "aws_s3_bucket_server_side_encryption_configuration" "this" {
  bucket = aws_s3_bucket.this.id

  rule {
    apply_server_side_encryption_by_default {
      sse_algorithm = "AES256"
    }
  }
}

data "aws_iam_policy_document" "tls_only" {
  statement {
    sid     = "RefusePlainHttp"
    effect  = "Deny"
    actions = ["s3:*"] # a Deny: it must cover every action there is

    principals {
      type        = "*"
      identifiers = ["*"]
    }
    resources = [aws_s3_bucket.this.arn, "${aws_s3_bucket.this.arn}/*"]

    condition {
      test     = "Bool"
      variable = "aws:SecureTransport"
      values   = ["false"]
    }
  }
}

resource "aws_s3_bucket_policy" "this" {
  bucket = aws_s3_bucket.this.id
  policy = data.aws_iam_policy_document.tls_only.json

  # AWS refuses two changes of a bucket's access at the same moment.
  depends_on = [aws_s3_bucket_public_access_block.this]
}

resource "aws_s3_bucket_lifecycle_configuration" "this" {
  bucket = aws_s3_bucket.this.id

  rule {
    id     = "runs-expire"
    status = var.runs_expire_after_days > 0 ? "Enabled" : "Disabled"

    filter {
      prefix = "runs/"
    }

    expiration {
      # A disabled rule needs a number too.
      days = max(var.runs_expire_after_days, 1)
    }
  }

  rule {
    id     = "old-versions-expire"
    status = "Enabled"

    filter {}

    noncurrent_version_expiration {
      noncurrent_days = var.old_versions_expire_after_days
    }
  }

  rule {
    id     = "leftovers-expire"
    status = "Enabled"

    filter {}

    abort_incomplete_multipart_upload {
      days_after_initiation = 1
    }

    expiration {
      expired_object_delete_marker = true
    }
  }

  # Rules about versions need versions.
  depends_on = [aws_s3_bucket_versioning.this]
}
