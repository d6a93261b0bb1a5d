package cpu

// RoundTokens is roundTokens, for tests.
var RoundTokens = (*Compute).roundTokens
