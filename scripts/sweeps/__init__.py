"""Many runs over lists of settings: plan, carry out, measure, recommend."""
