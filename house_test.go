package vigil_test

import (
	"go/ast"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

func TestTreeIsTidy(t *testing.T) {
	files, fset := parse(t)
	var sizes []int
	for _, f := range files {
		if ast.IsGenerated(f.ast) {
			continue
		}
		lines := fset.Position(f.ast.End()).Line
		if lines > 800 {
			t.Errorf("%s has %d lines; 800 is the most", f.path, lines)
		}
		if f.test {
			continue
		}
		sizes = append(sizes, lines)
		for _, d := range f.ast.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok {
				continue
			}
			if fn.Recv == nil && fn.Name.Name == "init" {
				t.Errorf("%s: no init functions", fset.Position(fn.Pos()))
			}
			if lines := fset.Position(fn.End()).Line - fset.Position(fn.Pos()).Line + 1; lines > 100 {
				t.Errorf("%s: %s has %d lines; 100 is the most", fset.Position(fn.Pos()), fn.Name.Name, lines)
			}
		}
	}
	slices.Sort(sizes)
	if median := sizes[len(sizes)/2]; median > 250 {
		t.Errorf("the median file has %d lines; 250 is the most", median)
	}
}

// unwelcome are words that say nothing of what a thing is.
var unwelcome = regexp.MustCompile(`(?i)^(.*(manager|handler|helper|processor)|.*(util|utils)|common|base|impl)$`)

// told are methods whose names say all: those of the standard library's
// interfaces.
var told = []string{"Error", "Unwrap", "Is", "String", "LogValue", "Len", "Less", "Swap"}

// TestNamesAreOurs holds the names that others see: each is documented, none is
// a plain getter called GetX, none is a word that says nothing.
func TestNamesAreOurs(t *testing.T) {
	files, fset := parse(t)
	for _, f := range files {
		if f.test || ast.IsGenerated(f.ast) {
			continue
		}
		name := func(id *ast.Ident, doc ...*ast.CommentGroup) {
			at := fset.Position(id.Pos())
			if unwelcome.MatchString(id.Name) && id.Name != "Handler" { // which is net/http's word
				t.Errorf("%s: %s says nothing of what it is", at, id.Name)
			}
			if id.IsExported() && !slices.Contains(told, id.Name) && !slices.ContainsFunc(doc, func(c *ast.CommentGroup) bool { return c.Text() != "" }) {
				t.Errorf("%s: %s has no comment", at, id.Name)
			}
		}
		for _, d := range f.ast.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				if d.Recv != nil && !exportedReceiver(d) || f.ast.Name.Name == "main" {
					continue
				}
				name(d.Name, d.Doc)
				if rest, ok := strings.CutPrefix(d.Name.Name, "Get"); ok && d.Type.Params.NumFields() == 0 && rest != "" {
					t.Errorf("%s: a plain getter is called %s", fset.Position(d.Pos()), rest)
				}
			case *ast.GenDecl:
				for _, spec := range d.Specs {
					switch s := spec.(type) {
					case *ast.TypeSpec:
						name(s.Name, s.Doc, d.Doc, s.Comment)
					case *ast.ValueSpec:
						for _, id := range s.Names {
							name(id, s.Doc, d.Doc, s.Comment)
						}
					}
				}
			}
		}
	}
}

// exportedReceiver says whether the method is of a type that others see.
func exportedReceiver(d *ast.FuncDecl) bool {
	typ := d.Recv.List[0].Type
	if p, ok := typ.(*ast.StarExpr); ok {
		typ = p.X
	}
	if g, ok := typ.(*ast.IndexExpr); ok {
		typ = g.X
	}
	id, ok := typ.(*ast.Ident)
	return ok && id.IsExported()
}

// TestHabits holds what reviewers would say again and again.
func TestHabits(t *testing.T) {
	files, fset := parse(t)
	undone := regexp.MustCompile(`\b(TO` + `DO|FIX` + `ME|XX` + `X)\b`)
	for _, f := range files {
		if ast.IsGenerated(f.ast) {
			continue
		}
		for _, group := range f.ast.Comments {
			if word := undone.FindString(group.Text()); word != "" {
				t.Errorf("%s: %s: do it, or open an issue", fset.Position(group.Pos()), word)
			}
		}
		ast.Inspect(f.ast, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			sel, ok := call.Fun.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			x, ok := sel.X.(*ast.Ident)
			if !ok {
				return true
			}
			at := fset.Position(call.Pos())
			switch what := x.Name + "." + sel.Sel.Name; {
			case what == "time.Sleep" && !strings.Contains(reasonOn(f.ast, fset, at), "bubble"):
				t.Errorf("%s: sleeping: wait for what you wait for (in a testing/synctest bubble, say so on the line)", at)
			case what == "context.Background" && !f.test && f.ast.Name.Name != "main" && reasonOn(f.ast, fset, at) == "":
				t.Errorf("%s: a context of nobody's: take the caller's, or say why not on the line", at)
			}
			return true
		})
	}
}

// reasonOn is the comment that stands on a line.
func reasonOn(f *ast.File, fset *token.FileSet, at token.Position) string {
	for _, group := range f.Comments {
		for _, c := range group.List {
			if fset.Position(c.Pos()).Line == at.Line {
				return c.Text
			}
		}
	}
	return ""
}

// TestLinksLead fails for a link between our documents that leads nowhere, and
// for a document in docs/ that its index does not name.
func TestLinksLead(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^)#:\s]+)(?:#[^)]*)?\)`)
	pages, err := filepath.Glob("docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	named := map[string]bool{}
	for _, page := range append(pages, "README.md", "ARCHITECTURE.md", "SECURITY.md", "CONTRIBUTING.md", "CHANGELOG.md", "examples/ts/README.md") {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range link.FindAllStringSubmatch(string(text), -1) {
			to := filepath.Join(filepath.Dir(page), m[1])
			if _, err := os.Stat(to); err != nil {
				t.Errorf("%s links to %s, which is not there", page, m[1])
			}
			if page == "docs/README.md" {
				named[to] = true
			}
		}
	}
	for _, page := range pages {
		if page != "docs/README.md" && !named[page] {
			t.Errorf("docs/README.md does not name %s", page)
		}
	}
}
