package vigil_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/vigil-ark/vigil"

// server lists the rooms that only a running Vigil has; the protocol, the test
// operator and the client must stand without them.
var server = []string{"kv", "ledger", "signer", "delegate", "renewal", "rpc", "fsck", "upkeep", "admin"}

// io lists the rooms that do I/O; pure rooms must not import them.
var io = append([]string{"operator", "arktest", "secret/sealed", "kv/sqlite", "cmd"}, server...)

// rule holds one room's line of ARCHITECTURE.md: what its files, tests apart,
// must never import. A name covers its subfolders too.
type rule struct {
	room       string
	never      []string
	except     []string // exceptions within never
	transitive bool     // also through what it imports
}

var rules = []rule{
	{room: ".", never: []string{"*"}},
	{room: "secret", never: []string{"*"}, except: []string{"secret", "internal/sqlitedb", "internal/crash"}},
	{room: "bip340", never: []string{"*"}, except: []string{".", "secret"}},
	{room: "musig2", never: []string{"*"}, except: []string{"bip340", "secret"}},
	{room: "ark", never: slices.Concat(io, []string{"frost", "secret", "internal/pb"})},
	{room: "operator", never: slices.Concat(server, []string{"arktest", "secret"})},
	{room: "kv", never: []string{"secret", "signer", "frost", "musig2", "bip340"}, transitive: true},
	{room: "ledger", never: []string{"secret", "signer", "rpc", "operator"}},
	{room: "delegate", never: []string{"secret", "signer", "kv", "rpc", "operator", "ledger"}},
	{room: "signer", never: []string{"kv", "ledger", "rpc", "operator"}},
	{room: "renewal", never: []string{"rpc", "secret", "signer", "kv"}},
	{room: "rpc", never: []string{"kv", "secret", "frost", "musig2", "signer"}},
	{room: "fsck", never: []string{"rpc", "operator", "secret", "signer"}},
	{room: "upkeep", never: []string{"rpc", "operator", "secret", "signer", "kv", "renewal"}},
	{room: "admin", never: []string{"rpc", "operator", "secret", "kv", "renewal", "stock"}},
	{room: "esplora", never: slices.Concat(io, []string{"ark", "secret"})},
	{room: "arktest", never: slices.Concat(server, []string{"rpc"})},
}

// mayUseSecrets lists the rooms that may open a secret.Bytes.
var mayUseSecrets = []string{"secret", "bip340", "musig2", "frost", "signer", "client"}

// mayNameStore lists the rooms that may name secret.Store.
var mayNameStore = []string{"secret", "signer", "client", "cmd"}

type file struct {
	room string // folder relative to the module's root
	path string
	ast  *ast.File
	test bool
}

// parse reads every Go file of the module. It does not ask the go command,
// whose answer go test would cache across an edit.
func parse(t *testing.T) (files []file, fset *token.FileSet) {
	t.Helper()
	fset = token.NewFileSet()
	err := filepath.WalkDir(".", func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if name := d.Name(); p != "." && (strings.HasPrefix(name, ".") || name == "node_modules" || name == "tools" || name == "e2e" || name == "testdata") {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(p, ".go") {
			return nil
		}
		f, err := parser.ParseFile(fset, p, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		files = append(files, file{room: filepath.ToSlash(filepath.Dir(p)), path: p, ast: f, test: strings.HasSuffix(p, "_test.go")})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(files) < 5 {
		t.Fatalf("only %d Go files found: the walk is broken", len(files))
	}
	return files, fset
}

// within says whether room is one of names or lies below one of them.
func within(room string, names []string) bool {
	return slices.ContainsFunc(names, func(n string) bool {
		return n == "*" || room == n || (n != "." && strings.HasPrefix(room, n+"/"))
	})
}

// ours returns the rooms of this module that f imports.
func ours(f file) (rooms []string) {
	for _, spec := range f.ast.Imports {
		p := strings.Trim(spec.Path.Value, `"`)
		if p == module {
			rooms = append(rooms, ".")
		} else if rest, ok := strings.CutPrefix(p, module+"/"); ok {
			rooms = append(rooms, rest)
		}
	}
	return rooms
}

func TestImportRules(t *testing.T) {
	files, _ := parse(t)
	imports := map[string]map[string]string{} // room to imported room to a file that does it
	for _, f := range files {
		if f.test || strings.HasSuffix(f.room, "test") && f.room != "arktest" {
			continue // a conformance suite may name what a test may
		}
		for _, to := range ours(f) {
			if imports[f.room] == nil {
				imports[f.room] = map[string]string{}
			}
			imports[f.room][to] = f.path
		}
	}
	for _, r := range rules {
		for room := range imports {
			if !within(room, []string{r.room}) {
				continue
			}
			seen := map[string]bool{}
			var visit func(from string, via []string)
			visit = func(from string, via []string) {
				for to, p := range imports[from] {
					if within(to, r.never) && !within(to, r.except) && !within(to, []string{r.room}) {
						t.Errorf("%s imports %s, which %s must never do (through %s)", p, to, r.room, path.Join(via...))
					}
					if r.transitive && !seen[to] {
						seen[to] = true
						visit(to, append(via, to))
					}
				}
			}
			visit(room, []string{room})
		}
	}
}

func TestOnlyNamedRoomsOpenSecrets(t *testing.T) {
	files, fset := parse(t)
	opened := 0
	for _, f := range files {
		ast.Inspect(f.ast, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.CallExpr:
				sel, ok := n.Fun.(*ast.SelectorExpr)
				if !ok || sel.Sel.Name != "Use" || len(n.Args) != 1 {
					return true
				}
				opened++
				if !within(f.room, mayUseSecrets) && !f.test {
					t.Errorf("%s opens a secret", fset.Position(n.Pos()))
				}
			case *ast.SelectorExpr:
				x, ok := n.X.(*ast.Ident)
				if ok && x.Name == "secret" && n.Sel.Name == "Store" && !within(f.room, mayNameStore) && !f.test {
					t.Errorf("%s names secret.Store", fset.Position(n.Pos()))
				}
			}
			return true
		})
	}
	if opened == 0 {
		t.Error("no use of a secret found anywhere: the test looks for the wrong thing")
	}
}

func TestTreeIsTidy(t *testing.T) {
	files, fset := parse(t)
	for _, f := range files {
		if strings.HasPrefix(f.room, "internal/pb") || f.room == "vigilpb" {
			continue
		}
		if lines := fset.Position(f.ast.End()).Line; lines > 800 {
			t.Errorf("%s has %d lines; 800 is the most", f.path, lines)
		}
		if f.test {
			continue
		}
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
}
