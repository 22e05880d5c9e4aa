# A private registry of one image.

resource "aws_ecr_repository" "this" {
  # checkov:skip=CKV_AWS_136:AES-256 encrypts at rest; a KMS key would cost while idle, and the image holds no secret
  name                 = var.name
  image_tag_mutability = "IMMUTABLE"
  # An image is built again with one command; data is in the bucket, which is never deleted with its content.
  force_delete = true

  image_scanning_configuration {
    scan_on_push = true
  }

  encryption_configuration {
    encryption_type = "AES256"
  }
}

resource "aws_ecr_lifecycle_policy" "this" {
  repository = aws_ecr_repository.this.name

  policy = jsonencode({
    rules = [
      {
        rulePriority = 1
        description  = "Images that lost their tag"
        selection    = { tagStatus = "untagged", countType = "sinceImagePushed", countUnit = "days", countNumber = 7 }
        action       = { type = "expire" }
      },
      # "Newest" is by push. What a rule of higher priority matches, no other deletes: an old image that is deployed stays.
      # https://docs.aws.amazon.com/AmazonECR/latest/userguide/lifecycle_policy_parameters.html
      {
        rulePriority = 2
        description  = "All but the newest of the images that were deployed"
        selection    = { tagStatus = "tagged", tagPrefixList = ["deployed-"], countType = "imageCountMoreThan", countNumber = 100 }
        action       = { type = "expire" }
      },
      {
        rulePriority = 3
        description  = "All but the newest images"
        selection    = { tagStatus = "any", countType = "imageCountMoreThan", countNumber = var.num_images_kept }
        action       = { type = "expire" }
      },
    ]
  })
}

# https://docs.aws.amazon.com/lambda/latest/dg/images-create.html#configuration-images-permissions
data "aws_iam_policy_document" "lambda_reads" {
  count = var.reader_arn == null ? 0 : 1

  statement {
    sid     = "LambdaReadsImages"
    actions = ["ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"]

    principals {
      type        = "Service"
      identifiers = ["lambda.amazonaws.com"]
    }

    condition {
      test     = "StringLike"
      variable = "aws:SourceArn"
      values   = [var.reader_arn]
    }
  }
}

resource "aws_ecr_repository_policy" "this" {
  count = var.reader_arn == null ? 0 : 1

  repository = aws_ecr_repository.this.name
  policy     = data.aws_iam_policy_document.lambda_reads[0].json
}
