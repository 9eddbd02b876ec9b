// Command search runs the example of an iterative task, a hundred points of a
// search with scikit-learn, in a data folder of its own, and shows the best ones.
// With -screenshot it also opens the plot that belongs to the run in Chromium,
// without a window, and keeps a picture of it.
//
//	go run ./scripts/search [-parallel 2] [-screenshot docs/parallel-coordinates.png]
package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"image"
	"image/color"
	"image/draw"
	"image/png"
	"maps"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"time"
)

func main() {
	parallel := flag.Int("parallel", 2, "`number` of iterations at once")
	screenshot := flag.String("screenshot", "", "PNG `file` for a picture of the plot")
	browser := flag.String("browser", "chromium", "`program` that makes it")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *parallel, *screenshot, *browser); err != nil {
		fmt.Fprintln(os.Stderr, "search:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, parallel int, screenshot, browser string) error {
	example := filepath.Join("examples", "breast_cancer")
	if _, err := os.Stat(example); err != nil {
		return errors.New("start it in the top folder of the repository: go run ./scripts/search")
	}
	dir, err := os.MkdirTemp("", "millrace-search-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	binary := filepath.Join(dir, "millrace")
	if err := command(ctx, "go", "build", "-o", binary, "./cmd/millrace").Run(); err != nil {
		return fmt.Errorf("go build: %w", err)
	}
	data := filepath.Join(dir, "data")
	search := command(ctx, binary, "run", filepath.Join(example, "search.py"), "--handler", "evaluate", "--data-dir", data,
		"--requirements-file", filepath.Join(example, "requirements.txt"),
		"-x", "c=0.001..1000:log", "-x", "gamma=0.00001..1:log", "-x", "kernel=rbf,poly,sigmoid",
		"--strategy", "tpe", "--max-iterations", "100", "--parallel", strconv.Itoa(parallel), "--selector", "max.accuracy", "--seed", "7", "-o", "json")
	search.Stdout = nil
	raw, err := search.Output()
	if err != nil {
		return fmt.Errorf("millrace run: %w", err)
	}
	var found struct {
		Metadata struct{ UID string }
		Status   struct {
			Artifacts []struct {
				Metadata struct{ Key string }
				Spec     struct {
					TargetPath string `json:"target_path"`
				}
			}
		}
	}
	if err := json.Unmarshal(raw, &found); err != nil {
		return err
	}
	fmt.Println("\nthe ten best of a hundred:")
	if err := command(ctx, binary, "get", "iterations", found.Metadata.UID, "--data-dir", data, "--sort", "-output.accuracy", "--limit", "10").Run(); err != nil {
		return fmt.Errorf("millrace get iterations: %w", err)
	}
	if screenshot == "" {
		return nil
	}
	for _, artifact := range found.Status.Artifacts {
		if artifact.Metadata.Key == "parallel_coordinates" {
			return picture(ctx, browser, artifact.Spec.TargetPath, screenshot, filepath.Join(dir, "browser"))
		}
	}
	return errors.New("the run has no artifact parallel_coordinates")
}

const pictureTime = time.Minute

// picture opens a page in a browser and keeps what it shows.
func picture(ctx context.Context, browser, page, file, profile string) error {
	ctx, cancel := context.WithTimeout(ctx, pictureTime)
	defer cancel()
	file, err := filepath.Abs(file)
	if err != nil {
		return err
	}
	cmd := command(ctx, browser, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
		"--disable-component-update", "--disable-sync", "--hide-scrollbars", "--user-data-dir="+profile, "--window-size=1100,560",
		"--screenshot="+file, "file://"+page)
	cmd.Stdout, cmd.Stderr = nil, nil // it says much that means nothing
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w (Debian's package chromium has it)", browser, err)
	}
	if err := shrink(file); err != nil {
		return fmt.Errorf("the picture that %s made: %w", browser, err)
	}
	info, err := os.Stat(file)
	if err != nil {
		return err
	}
	fmt.Printf("\n%s, %d kB\n", file, info.Size()/1000)
	return nil
}

// shrink keeps the 64 colours of a picture that are used most; the others are drawn
// in the nearest of them.
func shrink(file string) error {
	raw, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	full, err := png.Decode(bytes.NewReader(raw))
	if err != nil {
		return err
	}
	used := map[color.RGBA]int{} // by colours of 4 bits a channel
	bounds := full.Bounds()
	for y := bounds.Min.Y; y < bounds.Max.Y; y++ {
		for x := bounds.Min.X; x < bounds.Max.X; x++ {
			used[coarse(full.At(x, y))]++
		}
	}
	colours := slices.SortedFunc(maps.Keys(used), func(a, b color.RGBA) int {
		return cmp.Or(used[b]-used[a], int(a.R)-int(b.R), int(a.G)-int(b.G), int(a.B)-int(b.B))
	})
	palette := color.Palette{}
	for _, c := range colours[:min(64, len(colours))] {
		palette = append(palette, c)
	}
	small := image.NewPaletted(bounds, palette)
	draw.Draw(small, bounds, full, bounds.Min, draw.Src)
	var out bytes.Buffer
	encoder := png.Encoder{CompressionLevel: png.BestCompression}
	if err := encoder.Encode(&out, small); err != nil {
		return err
	}
	return os.WriteFile(file, out.Bytes(), 0o644)
}

// coarse rounds a colour to 4 bits a channel.
func coarse(c color.Color) color.RGBA {
	r, g, b, _ := c.RGBA()
	round := func(v uint32) uint8 { return uint8((v*15 + 0x7fff) / 0xffff * 17) }
	return color.RGBA{R: round(r), G: round(g), B: round(b), A: 0xff}
}

func command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	return cmd
}
