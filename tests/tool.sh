#!/bin/sh
# The tool from the command line: every command on small models, a training run that goes on, images
# of any size translated, and what it says when something is wrong.
# Usage: tests/tool.sh [build/gan], or its path in GAN; closes with "N passed, N failed".
gan=${1:-${GAN:-build/gan}}
gan=$(cd "$(dirname "$gan")" && pwd)/$(basename "$gan")
weights=$(cd "$(dirname "$0")" && pwd)/fixtures/weights
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1
passed=0
failed=0

# check WHAT COMMAND...: the command succeeds.
check() {
    what=$1
    shift
    if "$@" >out.txt 2>&1; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        echo "FAILED $what: $*"
        tail -n 3 out.txt
    fi
}

# says TEXT: the last command did.
says() {
    if grep -q -- "$1" out.txt; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        echo "FAILED: \"$1\" expected"
        tail -n 3 out.txt
    fi
}

# refused WHAT TEXT COMMAND...: the command ends with status 2 and says the text.
refused() {
    what=$1
    text=$2
    shift 2
    "$@" >out.txt 2>&1
    status=$?
    if [ "$status" -eq 2 ] && grep -q -- "$text" out.txt; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        echo "FAILED $what: status $status, \"$text\" expected: $*"
        tail -n 3 out.txt
    fi
}

kind() { head -c 4 "$1" | grep -q "$2"; }
bytes() { [ "$(wc -c <"$1")" -eq "$2" ]; }
train() { "$gan" train "$@" --threads 1; }

# Pictures: width, height, colour (P5 or P6).
picture() {
    channels=1
    [ "$3" = P6 ] && channels=3
    printf '%s\n%d %d\n255\n' "$3" "$1" "$2"
    head -c $(($1 * $2 * channels)) /dev/zero | tr '\0' 'k'
}
mkdir -p photos/trainA photos/trainB
for i in 1 2 3; do
    picture 32 16 P6 >"photos/trainA/$i.ppm"
    picture 32 16 P6 >"photos/trainB/$i.ppm"
done
picture 37 21 P6 >odd.ppm
picture 37 21 P5 >grey.pgm

dcgan="--size 16 --channels 1 --z 8 --ngf 2 --ndf 2 --batch 2"
small="--net resnet --blocks 1 --ngf 2 --ndf 2 --d-layers 1"

check list "$gan" list
says cyclegan
check help "$gan" help
check "help of a system" "$gan" train dcgan --help
says "--ngf X"
for system in $("$gan" list | cut -d' ' -f1); do # none has an option that is the tool's too
    "$gan" train "$system" --help | grep -o '^  --[a-z0-9-]*' | sort >names.txt
    check "options of $system" sh -c '[ -s names.txt ] && [ -z "$(uniq -d names.txt)" ]'
done
for command in list train sample translate info convert; do
    check "help of $command" "$gan" "$command" --help
    says "gan $command"
    check "help on $command" "$gan" help "$command"
    says "gan $command"
done
check "help beside a file" "$gan" sample nofile -h
says "--columns N"
refused "no such command" "did you mean gan sample?" "$gan" smaple
refused "help on what is not" 'no system "dcgen"' "$gan" train dcgen --help
refused "nothing to train" "gan train SYSTEM" "$gan" train
refused "nothing to translate" "MODEL IN OUT" "$gan" translate a b
refused "an argument too many" 'unexpected argument "x"' "$gan" list x

# shellcheck disable=SC2086
check train train dcgan $dcgan --steps 4 --out a
check samples kind a/samples.png PNG
check losses grep -q "step,loss_d,loss_g,spread" a/losses.csv
check "a collapse" train gan --size 16 --channels 1 --batch 16 --lr 0.02 --steps 400 --out collapsed
says "mode collapse"
refused "a checkpoint is there" "--resume goes on" "$gan" train dcgan --steps 4 --out a
# shellcheck disable=SC2086
check "train in two parts" train dcgan $dcgan --steps 2 --out b
check "go on" train dcgan --steps 4 --out b --resume
check "the same bits" cmp a/model.safetensors b/model.safetensors
check "the same log" cmp a/losses.csv b/losses.csv
printf 'step,loss_d,loss_g,spread\n1,1,1,1\n-3,1,1,1\n1,2,2,2\n2,nan,1\n3,2,2,2' >b/losses.csv
check "a damaged log" train dcgan --steps 5 --out b --resume
check "its good rows" sh -c "cut -d, -f1 b/losses.csv | tr '\n' ' ' | grep -qx 'step 1 3 5 '"
refused "nothing to go on from" "no e/model.safetensors" "$gan" train dcgan --out e --resume
refused "two wishes" "no --overwrite" "$gan" train dcgan --out b --resume --overwrite
refused "another system" "system lsgan expected" "$gan" train lsgan --out b --resume
refused "a file for a folder" "cannot make the folder" train dcgan --size 16 --out odd.ppm
printf 'count=none\n' >b/data.txt
refused "damaged data.txt" "found \"none\"" "$gan" train dcgan --steps 6 --out b --resume

# Interrupted once it has shown that it runs (after the second pictures), it saves and can go on.
# shellcheck disable=SC2086
"$gan" train dcgan $dcgan --steps 200000 --every 5 --out stopped --threads 1 >out.txt 2>&1 &
running=$!
tries=0
while [ ! -e stopped/samples-000010.png ] && [ "$tries" -lt 100 ]; do
    sleep 0.2
    tries=$((tries + 1))
done
kill -INT "$running"
wait "$running"
check "status of an interrupted run" [ $? -eq 130 ]
check "its checkpoint" "$gan" info stopped/model.safetensors
check sample "$gan" sample a/model.safetensors --out s.png --n 3
check walk "$gan" sample a/model.safetensors --out s.png --interpolate --columns 4
check code "$gan" sample a/model.safetensors --out s.png --code z
refused "two kinds of rows" "one of them" \
    "$gan" sample a/model.safetensors --out s.png --code z --interpolate
refused "a walk of one" "--columns 2" \
    "$gan" sample a/model.safetensors --out s.png --interpolate --columns 1
refused "no such code" "has the inputs z" "$gan" sample a/model.safetensors --out s.png --code q
refused "no such input" "it has: z walk" "$gan" sample a/model.safetensors --out s.png --colums 3
refused "no frames" "at once" "$gan" sample a/model.safetensors --out s.png --frames
refused "no translator" "does not translate" "$gan" translate a/model.safetensors odd.ppm o.png
check info "$gan" info a/model.safetensors
says "Deep Convolutional GAN"
check plan "$gan" info a/model.safetensors --plan --threads 1
says generator.main.3
check "plan of training" "$gan" info a/model.safetensors --plan=train --threads 1

# A row for each code: images 0, 1 ... of the seed in all but the input shown.
check codes train infogan --size 12 --channels 1 --z 4 --ngf 2 --ndf 2 --batch 4 --steps 2 --out i
check "rows of codes" "$gan" sample i/model.safetensors --out s.png --code c1 --columns 1 --n 3
check "the same by name" "$gan" sample i/model.safetensors --out t.png --c1 -1 --columns 1 --n 3
check "the same pictures" cmp s.png t.png
check "a category" "$gan" sample i/model.safetensors --out s.png --code 0 --columns 1 --n 3
check "another" "$gan" sample i/model.safetensors --out t.png --code 2 --columns 1 --n 3
check "draws another picture" sh -c "! cmp -s s.png t.png"
refused "no such category" "from 0 to 9" "$gan" sample i/model.safetensors --out s.png --code 10

check classes train cgan --size 8 --channels 1 --z 4 --batch 2 --steps 2 --out l
check "a class" "$gan" sample l/model.safetensors --out s.png --label 3 --n 2
check "another" "$gan" sample l/model.safetensors --out t.png --label 4 --n 2
check "draws another picture" sh -c "! cmp -s s.png t.png"
refused "no such class" "from 0 to 9" "$gan" sample l/model.safetensors --out s.png --label 10

# An image of which a rectangle is filled: what is left of it above and below is as it was.
check holes train context-encoder --size 16 --channels 3 --overlap 1 --bottleneck 4 \
    --ngf 2 --ndf 2 --batch 2 --steps 2 --out h
check rectangle "$gan" translate h/model.safetensors odd.ppm o.ppm \
    --left 30 --top 2 --width 5 --height 3
check "rows above" cmp -n 235 odd.ppm o.ppm
check "rows below" sh -c "tail -c 1776 odd.ppm >1.raw; tail -c 1776 o.ppm >2.raw; cmp 1.raw 2.raw"
check "the rectangle" sh -c "! cmp -s odd.ppm o.ppm"
check "the middle" "$gan" translate h/model.safetensors odd.ppm o.ppm
refused "a rectangle beside it" "from 0 to 36" \
    "$gan" translate h/model.safetensors odd.ppm o.ppm --left 37

critic="--size 8 --channels 1 --network mlp --z 4 --n-critic 3 --batch 2"
# shellcheck disable=SC2086
check "generator in every third step" train wgan-gp $critic --steps 8 --out w
# shellcheck disable=SC2086
check "a break between" train wgan-gp $critic --steps 4 --out v
check "go on" train wgan-gp --steps 8 --out v --resume
check "the same losses" cmp w/losses.csv v/losses.csv

check draw train draw --size 12 --channels 1 --glimpses 3 --hidden 8 --z 3 --read 3 --write 3 \
    --batch 2 --steps 2 --out d
check frames "$gan" sample d/model.safetensors --out f.png --frames --n 2
check animation grep -q acTL f-frames.png
refused "columns are steps" "no --columns" \
    "$gan" sample d/model.safetensors --out f.png --frames --columns 2

# shellcheck disable=SC2086
check "pairs of digits" train pix2pix --size 16 --channels 1 $small --steps 3 --derive rotate --out p
check "their grid" kind p/translations.png PNG
# shellcheck disable=SC2086
check "pairs by sides" train pix2pix --data photos/trainA --size 16 $small --steps 3 --out q
check "go on with the same data" train pix2pix --steps 4 --out q --resume
check "photo of any size" "$gan" translate q/model.safetensors odd.ppm o.ppm
check "its size" bytes o.ppm 2344
check "grey photo" "$gan" translate q/model.safetensors grey.pgm o.png
check "one pixel" sh -c "printf 'P6 1 1 255\nabc' >one.ppm && \
    '$gan' translate q/model.safetensors one.ppm o.ppm"
check "its size" bytes o.ppm 14
check folder "$gan" translate q/model.safetensors photos/trainA many --format ppm
check "file of a folder" bytes many/3.ppm 1549
mkdir -p tree/a tree/b dots
picture 9 7 P6 | tee tree/a/1.ppm tree/b/1.ppm dots/1.x.ppm >dots/1.y.ppm
check "folder of folders" "$gan" translate q/model.safetensors tree/ many --format ppm
check "each keeps its place" cmp many/a/1.ppm many/b/1.ppm
check "names with dots" "$gan" translate q/model.safetensors dots many
check "none replaces another" kind many/1.x.png PNG
check "nor this" kind many/1.y.png PNG
head -c 3330 /dev/zero >frames.raw
check frames sh -c "'$gan' translate q/model.safetensors - - --frame 37x15x3 <frames.raw >o.raw"
check "as many bytes" bytes o.raw 3330
head -c 3331 /dev/zero >frames.raw
"$gan" translate q/model.safetensors - - --frame 37x15x3 <frames.raw 2>out.txt >o.raw
status=$?
says "ends within frame 3: 1 of 1665 bytes"
check "half a frame" [ "$status" -eq 1 ]
mkdir -p kinds/a kinds/b
cp odd.ppm kinds/a/1.x.ppm
cp odd.ppm kinds/a/1.y.ppm
cp odd.ppm kinds/b/1.x.ppm
check "subfolders, dots" "$gan" translate q/model.safetensors kinds turned --format ppm
for result in a/1.x a/1.y b/1.x; do
    check "each its own result" [ -s "turned/$result.ppm" ]
done
cp grey.pgm kinds/b/1.x.pgm
refused "one name twice" "is called turned/b/1.x.ppm already" \
    "$gan" translate q/model.safetensors kinds turned --format ppm
refused "no sampler" "gan translate" "$gan" sample q/model.safetensors --out s.png
refused "one way" "expected ab" "$gan" translate q/model.safetensors odd.ppm o.png --direction ba
check "a frame cut off" sh -c \
    "head -c 3000 frames.raw | '$gan' translate q/model.safetensors - - --frame 37x15x3 >o.raw; [ \$? -eq 1 ]"
says "ends within frame 2: 1335 of 1665 bytes"
# shellcheck disable=SC2086
check "the other way" train pix2pix --data photos/trainA --size 16 $small --steps 1 --out r \
    --direction ba --start-from q/model.safetensors
says "parameters are in it"
check "and only that" "$gan" translate r/model.safetensors odd.ppm o.ppm --direction ba
check "if not said" "$gan" translate r/model.safetensors odd.ppm again.ppm
check "the same" cmp o.ppm again.ppm
printf 'P6 2 1 255\naaazzz' >both.ppm
printf 'P6 1 1 255\naaa' >left.ppm
printf 'P6 1 1 255\nzzz' >right.ppm
check "the half of a pair" "$gan" translate r/model.safetensors both.ppm o.ppm --sides
check "on the right" "$gan" translate r/model.safetensors right.ppm again.ppm
check "the same" cmp o.ppm again.ppm
check "the half of a pair" "$gan" translate q/model.safetensors both.ppm o.ppm --sides
check "on the left" "$gan" translate q/model.safetensors left.ppm again.ppm
check "the same" cmp o.ppm again.ppm
refused "not back" "expected ba" "$gan" translate r/model.safetensors odd.ppm o.png --direction ab

# Maps of classes and of instances, 8 and 16 bit, as files and as frames
mkdir -p maps instances tall
for i in 1 2; do
    { printf 'P5 16 16 255\n' && head -c 256 /dev/zero | tr '\0' '\002'; } >"maps/$i.pgm"
    { printf 'P5 16 16 65535\n' && head -c 512 /dev/zero | tr '\0' '\001'; } >"instances/$i.pgm"
    picture 16 16 P6 >"tall/$i.ppm"
done
check "label maps" train pix2pixhd --data maps --data-b tall --data-instances instances --classes 3 \
    --instances on --features 2 --ngf 2 --ndf 2 --nef 2 --downs 2 --downs-e 1 --blocks 1 \
    --layers 1 --steps 2 --out hd
check "a photo for a map" "$gan" translate hd/model.safetensors maps/1.pgm o.ppm \
    --data-instances instances/1.pgm
check "a folder of maps" "$gan" translate hd/model.safetensors maps many --data-instances instances
refused "instances are missing" "--data-instances" "$gan" translate hd/model.safetensors maps/1.pgm o.ppm
picture 16 16 P5 >dark.pgm
refused "no such class" "dark.pgm: .*index 107" "$gan" translate hd/model.safetensors dark.pgm o.ppm \
    --data-instances instances/1.pgm
refused "no map" "found 3 channels" "$gan" translate hd/model.safetensors odd.ppm o.ppm \
    --data-instances instances/1.pgm
check "label maps alone" train pix2pixhd --data maps --data-b tall --classes 3 --ngf 2 --ndf 2 \
    --downs 2 --blocks 1 --layers 1 --steps 2 --out k
check "by a file" "$gan" translate k/model.safetensors maps/1.pgm o.ppm
check "by frames" sh -c "tail -c 256 maps/1.pgm | \
    '$gan' translate k/model.safetensors - - --frame 16x16x1 >o.raw && tail -c 768 o.ppm | cmp - o.raw"
refused "weights for vgg" "--vgg-weights" train pix2pixhd --data maps --data-b tall --classes 3 \
    --downs 2 --vgg 10 --out vgg

# shellcheck disable=SC2086
check unpaired train cyclegan --data photos --size 16 $small --pool 2 --steps 3 --out c
check back "$gan" translate c/model.safetensors odd.ppm o.png --direction ba --resize 20x12

{ printf '\000\000\010\003\000\000\000\004\000\000\000\020\000\000\000\020' && head -c 1024 /dev/urandom; } >four.idx
check "halves of one file" train cogan --data four.idx --ngf 2 --ndf 2 --batch 2 --steps 2 \
    --out g

# Networks trained in PyTorch
check "translate by a .pth" "$gan" translate "$weights/resnet.pth" odd.ppm o.ppm
check "its size" bytes o.ppm 2344
check "sample from a .pth" "$gan" sample "$weights/dcgan.pth" --out s.png --n 2
check "info of a .pth" "$gan" info "$weights/unet.pth"
says "net=unet ngf=2"
check "what it cannot tell" "$gan" info "$weights/unet.pth" --set "dropout=0 layout=september"
says "dropout=0.*layout=september"
check "translate so" "$gan" translate "$weights/unet.pth" odd.ppm o.png --set layout=september
refused "a discriminator" "found a discriminator" \
    "$gan" sample "$weights/discriminator.pth" --out s.png
refused "two generators" "--prefix \"G_A.\"" "$gan" translate "$weights/pair.pth" odd.ppm o.ppm
check "take one out" "$gan" convert "$weights/pair.pth" one.safetensors --prefix G_B.
check "and run it" "$gan" translate one.safetensors grey.pgm o.pgm
check "a generator for PyTorch" "$gan" convert q/model.safetensors g.safetensors --prefix generator.
check "its own translation" "$gan" translate q/model.safetensors odd.ppm o.ppm
check "comes back" "$gan" translate g.safetensors odd.ppm again.ppm
check "and does the same" cmp o.ppm again.ppm
# header FILE TEXT: a safetensors file of nothing but a header.
header() {
    length=$(printf %s "$2" | wc -c)
    # shellcheck disable=SC2059
    printf "\\$(printf %03o $((length % 256)))\\$(printf %03o $((length / 256)))\\0\\0\\0\\0\\0\\0" >"$1"
    printf %s "$2" >>"$1"
}
header escape.safetensors '{"\u001b[2J":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}}'
check "letters that command a terminal" "$gan" info escape.safetensors
says "?\[2J"
header huge.safetensors '{"__metadata__":{"system":"pix2pix","height":"4096","width":"4096","channels":"4",
"batch":"16","options":"net=resnet ngf=1 ndf=1 blocks=1","params.seed":"1","params.step":"0"}}'
refused "a look at a file does not build its training" "does not fit" "$gan" info huge.safetensors
refused "no checkpoint" "safetensors file expected" "$gan" convert odd.ppm g.safetensors
refused "no such tensors" "no tensors whose names" \
    "$gan" convert "$weights/unet.pth" g.safetensors --prefix netG.

refused "single images" "single images" "$gan" train dcgan --derive grey --out e
refused "no such pairing" "--pairs: sides" "$gan" train pix2pix --pairs some --out e
refused "no such option" "unknown option --nfg.*did you mean --ngf?" "$gan" train dcgan --nfg 3
refused "no such system" 'no system "dcgen".*did you mean dcgan?' "$gan" train dcgen

echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
