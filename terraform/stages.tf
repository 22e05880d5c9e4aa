# What a stage may use: as in stages.json, but for what was changed by the variable.

locals {
  stages = {
    for stage, settings in jsondecode(file("${path.module}/stages.json")) :
    stage => merge(settings, { for key, value in try(var.stages[stage], {}) : key => value if value != null })
  }
}
