// Command protogen writes the Go code of the .proto files below a directory.
//
// It is protoc and protoc-gen-go in one program without either binary, so that the generated
// code depends on nothing but the versions in this module's go.mod.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/bufbuild/protocompile"
	"github.com/bufbuild/protocompile/linker"
	"github.com/bufbuild/protocompile/protoutil"
	gengo "google.golang.org/protobuf/cmd/protoc-gen-go/internal_gengo"
	"google.golang.org/protobuf/compiler/protogen"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/pluginpb"
)

const (
	// importRoot starts the names under which files import each other and are registered at
	// run time. It keeps them apart from another project's "workload/v1/workload.proto".
	importRoot = "eastwest/"

	// goRoot is the Go import path of the directory that code is generated in.
	goRoot = "github.com/eastwest-mesh/eastwest/internal/pb"
)

func main() {
	dir := flag.String("dir", ".", "directory of the .proto files, and of the code made from them")
	flag.Parse()
	if err := run(context.Background(), *dir); err != nil {
		fmt.Fprintln(os.Stderr, "protogen:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, dir string) error {
	names, err := protoFiles(dir)
	if err != nil {
		return err
	}
	files, err := compile(ctx, dir, names)
	if err != nil {
		return err
	}
	return generate(dir, names, files)
}

// protoFiles lists the import names of the .proto files in dir, sorted.
func protoFiles(dir string) ([]string, error) {
	var names []string
	err := fs.WalkDir(os.DirFS(dir), ".", func(name string, _ fs.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(name, ".proto") {
			names = append(names, importRoot+name)
		}
		return err
	})
	if err == nil && len(names) == 0 {
		err = fmt.Errorf("no .proto files in %s", dir)
	}
	return names, err
}

func compile(ctx context.Context, dir string, names []string) (linker.Files, error) {
	open := func(name string) (io.ReadCloser, error) {
		rel, ours := strings.CutPrefix(name, importRoot)
		if !ours {
			return nil, fs.ErrNotExist // one of protobuf's own, which WithStandardImports has
		}
		return os.Open(filepath.Join(dir, filepath.FromSlash(rel)))
	}
	compiler := protocompile.Compiler{
		Resolver:       protocompile.WithStandardImports(&protocompile.SourceResolver{Accessor: open}),
		SourceInfoMode: protocompile.SourceInfoStandard, // for the comments
	}
	return compiler.Compile(ctx, names...)
}

// generate does what protoc-gen-go does when protoc calls it.
func generate(dir string, names []string, files linker.Files) error {
	parameter := "module=" + goRoot
	req := &pluginpb.CodeGeneratorRequest{FileToGenerate: names, Parameter: &parameter}
	seen := make(map[string]bool)
	for _, f := range files {
		addFile(req, seen, f)
	}
	plugin, err := protogen.Options{}.New(req)
	if err != nil {
		return err
	}
	for _, f := range plugin.Files {
		if f.Generate {
			gengo.GenerateFile(plugin, f)
		}
	}
	resp := plugin.Response()
	if resp.Error != nil {
		return errors.New(resp.GetError())
	}
	for _, f := range resp.GetFile() {
		out := filepath.Join(dir, filepath.FromSlash(f.GetName()))
		if err := os.WriteFile(out, []byte(f.GetContent()), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// addFile appends f to the request after everything that it imports: the order that plugins
// are promised.
func addFile(req *pluginpb.CodeGeneratorRequest, seen map[string]bool, f protoreflect.FileDescriptor) {
	if seen[f.Path()] {
		return
	}
	seen[f.Path()] = true
	for i := range f.Imports().Len() {
		addFile(req, seen, f.Imports().Get(i).FileDescriptor)
	}
	req.ProtoFile = append(req.ProtoFile, protoutil.ProtoFromFileDescriptor(f))
}
