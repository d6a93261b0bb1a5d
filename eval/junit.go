package eval

import (
	"bytes"
	"encoding/xml"
	"fmt"
)

// junitSuites and those below are the JUnit format as CI systems read it.
type junitSuites struct {
	XMLName xml.Name     `xml:"testsuites"`
	Suites  []junitSuite `xml:"testsuite"`
}

type junitSuite struct {
	Name     string      `xml:"name,attr"`
	Tests    int         `xml:"tests,attr"`
	Failures int         `xml:"failures,attr"`
	Errors   int         `xml:"errors,attr"` // what could not be compared
	Cases    []junitCase `xml:"testcase"`
}

type junitCase struct {
	Class   string      `xml:"classname,attr"`
	Name    string      `xml:"name,attr"`
	Failure *junitFault `xml:"failure,omitempty"`
	Error   *junitFault `xml:"error,omitempty"`
}

type junitFault struct {
	Message string `xml:"message,attr"`
	Type    string `xml:"type,attr"`
}

// GateJUnit is the verdicts as JUnit XML, a test case for each budget; one that
// could not be compared is an error, not a failure.
func GateJUnit(verdicts []Verdict) []byte {
	suite := junitSuite{
		Name: "quantize gate", Tests: len(verdicts),
		Failures: Count(verdicts, Fail), Errors: Count(verdicts, NotComparable),
	}
	for _, v := range verdicts {
		c := junitCase{Class: v.Model, Name: fmt.Sprintf("%s %s", v.Metric, v.limit())}
		if v.Allowed != "" { // a name that stays when the baseline moves
			c.Name = fmt.Sprintf("%s %s %s", v.Metric, v.Side, v.Allowed)
		}
		if v.Text != "" {
			c.Name += " on " + v.Text
		}
		fault := &junitFault{Type: v.Metric.String(), Message: v.failure()}
		switch v.Status {
		case Fail:
			c.Failure = fault
		case NotComparable:
			c.Error = fault
		case Pass:
		}
		suite.Cases = append(suite.Cases, c)
	}
	var b bytes.Buffer
	b.WriteString(xml.Header)
	enc := xml.NewEncoder(&b)
	enc.Indent("", "  ")
	if err := enc.Encode(junitSuites{Suites: []junitSuite{suite}}); err != nil {
		panic("eval: verdicts do not encode: " + err.Error())
	}
	b.WriteByte('\n')
	return b.Bytes()
}

func (v Verdict) failure() string {
	from := ""
	if v.Baseline != nil {
		from = ", baseline " + v.baseline()
	}
	return fmt.Sprintf("value %s%s, limit %s, margin %s", v.value(), from, v.limit(), v.margin())
}
