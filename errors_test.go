package vigil_test

import (
	"errors"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/vigil-ark/vigil"
)

var update = flag.Bool("update", false, "rewrite the documents that are made from code")

func TestTableIsWhole(t *testing.T) {
	if !slices.IsSortedFunc(vigil.Table, func(a, b vigil.Entry) int { return strings.Compare(string(a.Code), string(b.Code)) }) {
		t.Error("the table is not in the order of the codes")
	}
	inTable := map[vigil.Code]int{}
	for _, e := range vigil.Table {
		inTable[e.Code]++
		// Meanings travel in gRPC's message header, which escapes everything else.
		if strings.ContainsFunc(e.Meaning, func(r rune) bool { return r < ' ' || r > '~' || r == '%' }) || !strings.HasSuffix(e.Meaning, ".") {
			t.Errorf("%s: %q is no plain sentence", e.Code, e.Meaning)
		}
		if vigil.Lookup(e.Code) != e {
			t.Errorf("%s is not found", e.Code)
		}
	}
	for _, code := range codesInSource(t) {
		if inTable[code] != 1 {
			t.Errorf("%s stands in the table %d times", code, inTable[code])
		}
		delete(inTable, code)
	}
	if len(inTable) > 0 {
		t.Errorf("in the table and no constant: %v", inTable)
	}
	if e := vigil.Lookup("NO_SUCH_CODE"); e.Kind != vigil.KindInternal || e.Meaning == "" {
		t.Errorf("an unknown code is %+v", e)
	}
}

// codesInSource lists the values of the Code constants.
func codesInSource(t *testing.T) (codes []vigil.Code) {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), "errors.go", nil, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	ast.Inspect(f, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		if typ, ok := spec.Type.(*ast.Ident); ok && typ.Name == "Code" {
			for _, v := range spec.Values {
				text, err := strconv.Unquote(v.(*ast.BasicLit).Value)
				if err != nil {
					t.Fatal(err)
				}
				codes = append(codes, vigil.Code(text))
			}
		}
		return true
	})
	if len(codes) < 40 {
		t.Fatalf("only %d codes found: the search is broken", len(codes))
	}
	return codes
}

func TestError(t *testing.T) {
	cause := errors.New("cause")
	err := vigil.Errorf(vigil.CodeInvalidProof, "input %d: %w", 3, cause)
	if err.Error() != "INVALID_PROOF: input 3: cause" || !errors.Is(err, cause) {
		t.Errorf("%v", err)
	}
	if code := vigil.CodeOf(fmt.Errorf("wrapped: %w", err)); code != vigil.CodeInvalidProof {
		t.Errorf("code %s", code)
	}
	if code := vigil.CodeOf(cause); code != vigil.CodeInternal {
		t.Errorf("code of a foreign error: %s", code)
	}
}

const errorsDoc = "docs/errors.md"

func TestErrorsDoc(t *testing.T) {
	want := errorsPage()
	if *update {
		if err := os.WriteFile(errorsDoc, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(errorsDoc)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Errorf("%s is not current; run go test . -run TestErrorsDoc -update", errorsDoc)
	}
}

func errorsPage() string {
	kinds := map[vigil.Kind][2]string{
		vigil.KindInvalid:     {"InvalidArgument", "400"},
		vigil.KindState:       {"FailedPrecondition", "400"},
		vigil.KindConflict:    {"AlreadyExists", "409"},
		vigil.KindNotFound:    {"NotFound", "404"},
		vigil.KindLimit:       {"ResourceExhausted", "429"},
		vigil.KindUnavailable: {"Unavailable", "503"},
		vigil.KindInternal:    {"Internal", "500"},
		vigil.KindUnsigned:    {"Unauthenticated", "401"},
		vigil.KindDenied:      {"PermissionDenied", "403"},
		vigil.KindAborted:     {"Aborted", "409"},
	}
	var b strings.Builder
	b.WriteString(`# Refusals

Generated from the table in errors.go by ` + "`go test . -run TestErrorsDoc -update`" + `. Do not edit.

Every refusal carries one of these codes, which never change their meaning, and a sentence that says what is wrong with
this request. Over REST the body is ` + "`{\"code\": <gRPC code>, \"message\": \"CODE: sentence\", \"details\": […]}`" + `, over gRPC the
message is the same text; in both, details hold a ` + "`google.rpc.ErrorInfo`" + ` with the code as reason and ` + "`vigil`" + ` as domain.
Where the same request may pass later there is a ` + "`Retry-After`" + ` header (REST) and a ` + "`google.rpc.RetryInfo`" + ` (both).

| code | gRPC | HTTP | retry | what it means, and what to do |
|---|---|---|---|---|
`)
	for _, e := range vigil.Table {
		kind := kinds[e.Kind]
		if e.Code == vigil.CodeBodyTooLarge {
			kind[1] = "413"
		}
		retry := "no"
		if e.Retry {
			retry = "yes"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s |\n", e.Code, kind[0], kind[1], retry, e.Meaning)
	}
	return b.String()
}

// Every code is raised by some room, and some test waits for it: none is in the
// table for its own sake.
func TestEveryCodeIsRaisedAndTested(t *testing.T) {
	files, _ := parse(t)
	names := constantNames(t)
	raised, tested := map[string]bool{}, map[string]bool{}
	for _, f := range files {
		ast.Inspect(f.ast, func(n ast.Node) bool {
			sel, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			if x, ok := sel.X.(*ast.Ident); ok && x.Name == "vigil" && f.test {
				tested[sel.Sel.Name] = true
			} else if ok && x.Name == "vigil" {
				raised[sel.Sel.Name] = true
			}
			return true
		})
	}
	for _, name := range names {
		if !raised[name] {
			t.Errorf("%s is raised nowhere", name)
		}
		if !tested[name] {
			t.Errorf("no test names %s", name)
		}
	}
}

// constantNames lists the names of the Code constants.
func constantNames(t *testing.T) (names []string) {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), "errors.go", nil, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	ast.Inspect(f, func(n ast.Node) bool {
		if spec, ok := n.(*ast.ValueSpec); ok {
			if typ, ok := spec.Type.(*ast.Ident); ok && typ.Name == "Code" {
				names = append(names, spec.Names[0].Name)
			}
		}
		return true
	})
	return names
}
