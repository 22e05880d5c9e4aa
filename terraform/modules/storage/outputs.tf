output "bucket" {
  description = "Name of the bucket."
  value       = aws_s3_bucket.this.id
}

output "bucket_arn" {
  description = "ARN of the bucket."
  value       = aws_s3_bucket.this.arn
}

output "data_bucket_arn" {
  description = "ARN of the existing bucket; null when there is none."
  value       = one(data.aws_s3_bucket.data[*].arn)
}
